// Plans of more ranks than can be run here.
#include "optim/plan/execution_plan.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>

#include "tests/optim/engine/small_model.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;

namespace {

core::ParameterList layers(int count, std::deque<core::Parameter>& parameters) {
  core::ParameterList list;
  for (int layer = 0; layer < count; ++layer)
    for (const char* name : {"qkv", "out", "up", "down", "norm"}) {
      const bool vector = name == std::string("norm");
      const core::Shape shape = vector ? core::Shape{640} : core::Shape{640, 640};
      const auto kind = vector ? core::ParameterKind::vector : core::ParameterKind::matrix;
      list.push_back(&parameters.emplace_back(core::Parameter{
          fmt::format("blocks.{}.{}.weight", layer, name), shape, kind, {core::Initializer::Kind::normal, 0.5}, {}, {}}));
    }
  return list;
}

}  // namespace

// What a rank plans for a million is a matter of its parameters and, once, of the number of ranks; were anything done for
// every pair of ranks, or every parameter and rank, it would be more than 10⁹ steps each time it is asked for.
TEST(ExecutionPlan, AMillionRanksArePlanned) {
  constexpr int kRanks = 1'000'000;
  std::deque<core::Parameter> parameters;
  const core::ParameterList list = layers(500, parameters);
  for (const int zero : {0, 1, 2, 3}) {
    ParallelOptions options{.zero = zero};
    options.compression.others = zero == 1;
    const ExecutionPlan plan = make_execution_plan(list, small_config(), options, kRanks);
    std::int64_t snapshots = 0;
    for (int rank = 0; rank < kRanks; rank += zero == 1 ? 50'000 : 5'000) {
      EXPECT_GT(plan.bytes(rank).total(), 0);
      snapshots += plan.snapshot_bytes(rank);
    }
    EXPECT_GT(snapshots, 0);
    EXPECT_GT(plan.bytes_sent_per_step(), 0);
    EXPECT_NE(plan.hash(), 0u);
    std::set<int> owners;
    for (int t = 0; t < 2000; ++t) owners.insert(plan.owners.owner(t));
    EXPECT_EQ(owners.size(), 2000u);  // each matrix has a rank of its own
  }
}

// 200 matrices, 312 MiB: one GPU has nothing to exchange and takes them together; two exchange theirs in waves.
TEST(ExecutionPlan, WavesAreOf64MiBExceptOnOneGpu) {
  std::deque<core::Parameter> parameters;
  const core::ParameterList list = layers(50, parameters);
  const auto waves = [&](core::DeviceKind device, int ranks, std::int64_t elements) {
    return make_execution_plan(list, small_config(), {.wave_elements = elements, .device = device}, ranks).owners.waves();
  };
  EXPECT_EQ(waves(core::DeviceKind::cuda, 1, 0), 1);
  EXPECT_EQ(waves(core::DeviceKind::cuda, 2, 0), 3);
  EXPECT_EQ(waves(core::DeviceKind::cpu, 1, 0), 5);
  EXPECT_EQ(waves(core::DeviceKind::cuda, 1, 64 << 18), 5);
}
