// Reduction of gradients and the way of matrices through their owners, by GPUs of the stand-in over NCCL.
#include <mutex>

#include "gpu_ranks.h"
#include "pipeline_checks.h"

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
      ASSERT_NO_THROW(run_on_gpus(
          ranks, [&](Communicator& nccl, core::Device& device) { check_reduction(device, nccl, s); }))
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
    for (std::size_t i = 0; i < b.size(); ++i)
      ASSERT_EQ(b[i], total_gradient(1, static_cast<std::int64_t>(i)));
  }
};

TEST_F(NcclPipeline, ReducesAndExchangesExactly) {
  for (const int ranks : {1, 4}) check_all(ranks, false);
}

TEST_F(NcclPipeline, Pitfall31_Pitfall32_ReducesAndExchangesExactlyUnderDelays) {
  for (const int ranks : {2, 3}) check_all(ranks, true);
}

}  // namespace
}  // namespace muonp::test
