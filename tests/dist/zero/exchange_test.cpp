// Reduction of gradients and the way of matrices through their owners, by ranks on CPUs.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "dist/comm/decorators.h"
#include "dist/comm/thread.h"
#include "tests/dist/zero/pipeline_checks.h"

using namespace muonp;
using namespace muonp::dist;
using namespace muonp::test;
using core::Dtype;

namespace {

void reduce_on_cpu(Communicator& communicator, const Case& s) {
  check_reduction(*core::make_cpu_device(1), communicator, s);
}

std::map<std::string, std::vector<float>> exchange_on_cpu(Communicator& communicator, const Case& s,
                                                          std::int64_t wave_elements) {
  return check_exchange(*core::make_cpu_device(1), communicator, s, wave_elements);
}

}  // namespace

TEST(Reducer, SumsExactlyAtEveryWorldSizeStageAndBucketSize) {
  for (int n : {1, 2, 3, 4, 5, 7})
    for (const Case& s : cases())
      ASSERT_NO_THROW(run_ranks(n, [&](Communicator& c) { reduce_on_cpu(c, s); }))
          << "ranks " << n << " stage " << s.stage << " passes " << s.passes << " bucket " << s.bucket;
}

TEST(ExactTransport, Pitfall03_Pitfall22_GatheredMatricesAreBitEqualForAllWorldSizes) {
  for (int n : {1, 2, 3, 4, 5, 7})
    for (const Case& s : cases())
      for (std::int64_t wave : {50, 100000}) {
        std::mutex mutex;
        std::map<std::string, std::vector<float>> all;
        run_ranks(n, [&](Communicator& c) {
          auto seen = exchange_on_cpu(c, s, wave);
          std::lock_guard lock(mutex);
          for (auto& [name, values] : seen)
            ASSERT_TRUE(all.emplace(name, std::move(values)).second) << name << " was computed twice";
        });
        ASSERT_EQ(all.size(), 5u);
        const std::vector<float>& b = all.at("b.weight");
        for (std::size_t i = 0; i < b.size(); ++i) ASSERT_EQ(b[i], total_gradient(1, std::int64_t(i)));
      }
}

// Tall matrices in rows, wide ones in columns.
TEST(ExactTransport, RanksThatShareAMatrixHaveTheirPartsOfIt) {
  for (int n : {2, 3, 4, 5, 7})
    for (const Case& s : cases())
      for (std::int64_t wave : {50, 100000}) {
        const Model model;
        const OwnerPlan owners(model.tasks(), n, wave, Owners::groups);
        run_ranks(n, [&](Communicator& c) {
          const auto seen = check_exchange(*core::make_cpu_device(1), c, s, wave, Owners::groups);
          for (int t = 0; t < static_cast<int>(owners.tasks().size()); ++t) {
            const MatrixTask& task = owners.tasks()[std::size_t(t)];
            ASSERT_EQ(seen.count(task.name), owners.owns(c.rank(), t)) << task.name;
            if (!owners.is_shared(t) || !owners.owns(c.rank(), t)) continue;
            const std::vector<float>& part = seen.at(task.name);
            const Rectangle where = owners.share(t, c.rank()).front();
            ASSERT_EQ(std::ssize(part), where.elements());
            for (std::int64_t i = 0; i < where.elements(); ++i)
              ASSERT_EQ(part[std::size_t(i)], total_gradient(task.parameter, where.position(i))) << task.name;
          }
        });
        for (int t = 0; t < static_cast<int>(owners.tasks().size()); ++t)
          EXPECT_EQ(owners.is_shared(t), owners.tasks()[std::size_t(t)].most_owners > 1);
      }
}

TEST(ExactTransport, Pitfall03_TheTestedMatrixStraddlesRanks) {
  const Model model;
  const ShardPlan plan(model.specs(), 3, 700);
  int holders = 0;
  for (int r = 0; r < 3; ++r) holders += !plan.piece(1, r).empty();
  EXPECT_GE(holders, 2);
}

TEST(ExactTransport, Pitfall26_RecordedBytesEqualTheFormula) {
  for (int n : {2, 3, 4, 5})
    for (int stage : {0, 1, 2, 3})
      run_ranks(n, [&](Communicator& c) {
        Recording recording(c);
        const Case s{stage, 1, false, 700};
        exchange_on_cpu(recording, s, 100000);
        const Model model;
        const ShardPlan plan(model.specs(), n, 700);
        const OwnerPlan owners(model.tasks(), n, 100000);
        std::int64_t sent = 0, calls = 0;
        for (int w = 0; w < owners.waves(); ++w) {
          calls += stage == 0 ? 1 : 2;
          for (int t : owners.wave(w)) {
            const int p = owners.tasks()[std::size_t(t)].parameter;
            const std::int64_t whole = plan.in_bucket(p).count(), mine = plan.piece(p, c.rank()).count();
            const bool own = owners.owner(t) == c.rank();
            if (stage == 0)
              sent += own ? (n - 1) * whole : 0;
            else
              sent += own ? whole - mine : mine;  // as owner: the others' updates; else: my piece
          }
        }
        EXPECT_EQ(recording.total(OperationKind::exchange).bytes, 4 * sent);
        EXPECT_EQ(recording.total(OperationKind::exchange).calls, calls);
        const auto reduced = recording.total(stage == 0 ? OperationKind::all_reduce : OperationKind::reduce_scatter);
        EXPECT_EQ(reduced.calls, static_cast<std::int64_t>(plan.buckets().size()));
        if (stage > 0) {
          EXPECT_EQ(reduced.bytes, 4 * plan.padded_elements() / n * (n - 1));
        }
      });
}

TEST(Reducer, Pitfall27_Stage2NeverHoldsAllGradients) {
  run_ranks(2, [](Communicator& c) {
    auto device = core::make_cpu_device(1);
    Model model;
    const ShardPlan plan(model.specs(), 2, 64);
    const ShardedParameters parameters(*device, model.list, plan, c.rank(), 2, Dtype::float32);
    AsyncQueue async(AsyncQueue::Mode::inline_);
    GradientReducer reducer(*device, parameters, c, async, false);
    backward(*device, model, reducer, c.rank(), 2, 2);
    std::int64_t largest = 0;
    for (const Bucket& b : plan.buckets()) largest = std::max(largest, b.size);
    EXPECT_EQ(device->allocator()->use().peak_of(core::Category::gradients), 4 * (plan.padded_elements() / 2 + largest));
    EXPECT_EQ(device->allocator()->use().of(core::Category::gradients), 2 * plan.padded_elements());
  });
}

TEST(Reducer, Pitfall33_WrongOrderIsAClearError) {
  run_ranks(1, [](Communicator& c) {
    auto device = core::make_cpu_device(1);
    Model model;
    const ShardedParameters parameters(*device, model.list, ShardPlan(model.specs(), 1, 700), 0, 1, Dtype::float32);
    AsyncQueue async(AsyncQueue::Mode::inline_);
    GradientReducer reducer(*device, parameters, c, async, false);
    EXPECT_THROW(reducer.finish(), core::InternalError);              // a step before any backward pass
    EXPECT_THROW(reducer.slot(*model.list[0]), core::InternalError);  // a gradient outside a pass
    backward(*device, model, reducer, 0, 1, 1);
    EXPECT_THROW(reducer.finish(), core::InternalError);                 // a second step
    EXPECT_THROW(reducer.begin_pass(false, true), core::InternalError);  // adding to reduced gradients
    reducer.begin_pass(true, true);
    reducer.slot(*model.list[0]);
    reducer.complete(*model.list[0]);
    EXPECT_THROW(reducer.complete(*model.list[0]), core::InternalError);  // completed twice
    EXPECT_THROW(reducer.finish(), core::InternalError);                  // others are missing
  });
}

TEST(Reducer, Pitfall31_SurvivesAllocatorChurnWhileReductionsAreInFlight) {
  run_ranks(3, [](Communicator& c) {
    Delayed delayed(c, std::chrono::microseconds(300), 7);
    for (int repeat = 0; repeat < 10; ++repeat) reduce_on_cpu(delayed, {2, 2, true, 64});
    for (int repeat = 0; repeat < 10; ++repeat) exchange_on_cpu(delayed, {2, 2, true, 64}, 50);
  });
}
