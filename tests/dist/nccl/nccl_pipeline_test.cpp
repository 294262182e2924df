// Reduction of gradients and the way of matrices through their owners, by GPUs of the stand-in over NCCL.
#include <mutex>

#include "dist/comm/decorators.h"
#include "tests/dist/expect_error.h"
#include "tests/dist/nccl/gpu_ranks.h"
#include "tests/dist/zero/pipeline_checks.h"

namespace muonp::test {
namespace {

using dist::Communicator;

class NcclPipeline : public GpuRanks {
 protected:
  // Every case; with `delays`, in the asynchronous mode, each under another seed.
  static void check_all(int ranks, bool delays) {
    std::uint64_t seed = 0;
    for (const Case& s : cases()) {
      if (delays) start(cuda_host::Mode::kAsync, ++seed);
      ASSERT_NO_THROW(
          run_on_gpus(ranks, [&](Communicator& nccl, core::Device& device) { check_reduction(device, nccl, s); }))
          << "ranks " << ranks << " stage " << s.stage << " passes " << s.passes << " bucket " << s.bucket;
      for (const std::int64_t wave : {50, 100000}) check_waves(ranks, s, wave);
      ASSERT_FALSE(HasFailure()) << "seed " << seed;
    }
  }

 private:
  static void check_waves(int ranks, const Case& s, std::int64_t wave) {
    std::mutex mutex;
    std::map<std::string, std::vector<float>> all;
    run_on_gpus(ranks, [&](Communicator& nccl, core::Device& device) {
      auto seen = check_exchange(device, nccl, s, wave);
      const std::lock_guard lock(mutex);
      for (auto& [name, values] : seen)
        ASSERT_TRUE(all.emplace(name, std::move(values)).second) << name << " was computed twice";
    });
    ASSERT_EQ(all.size(), 5u);
    const std::vector<float>& b = all.at("b.weight");
    for (std::size_t i = 0; i < b.size(); ++i) ASSERT_EQ(b[i], total_gradient(1, static_cast<std::int64_t>(i)));
  }
};

TEST_F(NcclPipeline, ReducesAndExchangesExactly) {
  for (const int ranks : {1, 4}) check_all(ranks, false);
}

TEST_F(NcclPipeline, Pitfall31_Pitfall32_ReducesAndExchangesExactlyUnderDelays) {
  for (const int ranks : {2, 3}) check_all(ranks, true);
}

// With hooks on every gradient and several passes, each bucket is reduced once a step (stage 2: once a pass).
TEST_F(NcclPipeline, Pitfall33_EachBucketIsReducedOnceAStep) {
  for (const int stage : {0, 1, 2})
    for (const int passes : {1, 2}) {
      start(cuda_host::Mode::kAsync, static_cast<std::uint64_t>(stage * 2 + passes));
      run_on_gpus(2, [&](Communicator& nccl, core::Device& device) {
        dist::Recording recording(nccl);
        dist::AsyncQueue async(recording);
        Model model;
        const dist::ShardPlan plan(model.specs(), 2, 700);
        const dist::ShardedParameters parameters(device, model.list, plan, nccl.rank(), stage, core::Dtype::float32);
        dist::GradientReducer reducer(device, parameters, recording, async, true);
        for (int step = 1; step <= 2; ++step) {
          backward(device, model, reducer, nccl.rank(), 2, passes);
          EXPECT_EQ(recording.total().calls,
                    step * (stage == 2 ? passes : 1) * static_cast<std::int64_t>(plan.buckets().size()));
        }
      });
    }
}

TEST_F(NcclPipeline, Pitfall33_AStepWithoutABackwardPassIsAClearError) {
  run_on_gpus(1, [](Communicator& nccl, core::Device& device) {
    dist::AsyncQueue async(nccl);
    Model model;
    const dist::ShardedParameters parameters(device, model.list, dist::ShardPlan(model.specs(), 1, 700), 0, 1,
                                             core::Dtype::float32);
    dist::GradientReducer reducer(device, parameters, nccl, async, true);
    expect_error<core::InternalError>([&] { reducer.finish(); },
                                      testing::HasSubstr("no last backward pass before the optimizer's step"));
    backward(device, model, reducer, 0, 1, 1);  // which ends with finish()
    expect_error<core::InternalError>([&] { reducer.finish(); },
                                      testing::HasSubstr("no last backward pass since the optimizer's step"));
    expect_error<core::InternalError>([&] { reducer.complete(*model.list[0]); },
                                      testing::HasSubstr("completed outside a pass"));
    EXPECT_EQ(reducer.reduced(0).size(), model.list[0]->size());  // what was reduced stays
  });
}

}  // namespace
}  // namespace muonp::test
