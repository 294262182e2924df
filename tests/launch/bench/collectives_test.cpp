#include "launch/bench/collectives_benchmark.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "dist/comm/decorators.h"
#include "tests/support/device_ranks.h"

namespace muonp::test {
namespace {

using namespace launch;
using dist::OperationKind;

constexpr core::Dtype kTypes[] = {core::Dtype::float32, core::Dtype::bfloat16, core::Dtype::float16};

TEST(Collectives, QuartilesOfTimes) {
  const Timing timing = timing_of({4, 1, 3, 2, 5});
  EXPECT_EQ(timing.lower, 2);
  EXPECT_EQ(timing.median, 3);
  EXPECT_EQ(timing.upper, 4);
  EXPECT_EQ(timing.repeats, 5);
  EXPECT_EQ(timing_of({1, 2}).median, 1.5);
}

TEST(Collectives, BusBandwidthAsNcclTestsHasIt) {
  const auto bus = [](OperationKind kind) {
    CollectiveResult result;
    result.what.kind = kind;
    result.bytes = 100;
    result.timing.median = 2;
    EXPECT_EQ(result.algorithm_bandwidth(), 50);
    return result.bus_bandwidth(4);
  };
  EXPECT_DOUBLE_EQ(bus(OperationKind::all_reduce), 75);
  EXPECT_DOUBLE_EQ(bus(OperationKind::reduce_scatter), 37.5);
  EXPECT_DOUBLE_EQ(bus(OperationKind::all_gather), 37.5);
  EXPECT_DOUBLE_EQ(bus(OperationKind::exchange), 37.5);
  EXPECT_DOUBLE_EQ(bus(OperationKind::broadcast), 50);
}

TEST(Collectives, EveryOperationIsMeasuredAndRight) {
  for (const int ranks : {1, 2, 3})
    run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
      dist::Recording recording(communicator, dist::Recording::Keep::totals);
      std::set<OperationKind> met;
      for (const CollectiveCase& what : all_collectives(kTypes, 8, 5000, 25)) {
        const CollectiveResult result = run_collective(recording, device, what, 0);
        met.insert(what.kind);
        EXPECT_EQ(result.wrong, 0) << dist::name_of(what.kind) << " " << core::name_of(what.dtype) << " " << what.bytes;
        EXPECT_GE(result.bytes, what.kind == OperationKind::barrier ? 0 : what.bytes);
        EXPECT_GE(result.timing.repeats, 3);
      }
      EXPECT_EQ(met.size(), static_cast<std::size_t>(dist::kOperationKinds));
      for (const OperationKind kind : met) EXPECT_GT(recording.total(kind).calls, 0);
    });
}

// Changes one element of what it was given once it is there.
class Wrong final : public dist::Decorator {
 public:
  using Decorator::Decorator;
  void all_reduce(dist::Span data, dist::Reduce op) override {
    Decorator::all_reduce(data, op);
    if (rank() == 1) static_cast<float*>(data.data)[data.count - 1] += 1;
  }
  using Decorator::all_reduce;

 private:
  bool before(const dist::Operation&) override { return true; }
};

TEST(Collectives, WrongResultsAreCounted) {
  dist::run_ranks(2, [](dist::Communicator& communicator) {
    const auto device = core::make_cpu_device(1);
    Wrong wrong(communicator);
    const CollectiveResult result = run_collective(wrong, *device, {.kind = OperationKind::all_reduce, .bytes = 64}, 0);
    EXPECT_EQ(result.wrong, 2);  // on one rank, before the timed calls and after
  });
}

}  // namespace
}  // namespace muonp::test
