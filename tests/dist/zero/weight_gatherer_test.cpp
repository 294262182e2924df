// Weights that are gathered behind the next forward pass, on delayed streams of the stand-in.
#include "dist/zero/weight_gatherer.h"

#include <deque>

#include "core/device/host_view.h"
#include "tests/dist/nccl/gpu_ranks.h"

namespace muonp::test {
namespace {

using core::Tensor;

// Of every parameter this rank's part becomes `value`, in the order of the device's queue.
void set_own_parts(core::Device& device, const dist::ShardedParameters& parameters, float value) {
  for (int p = 0; p < static_cast<int>(parameters.parameters().size()); ++p) {
    const Tensor own = parameters.master(p);
    if (own.size() == 0) continue;
    const core::HostView host(device.queue(), own, core::Access::write);
    for (float& x : host.span<float>()) x = value;
    host.upload();
  }
}

class WeightGatherers : public GpuRanks {};

// Without the wait in acquire(), what is read is the value of the round before.
TEST_F(WeightGatherers, Pitfall32_WhoReadsAWeightWaitsForItsBucket) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    start(cuda_host::Mode::kAsync, seed);
    run_on_gpus(3, [](dist::Communicator& nccl, core::Device& device) {
      std::deque<core::Parameter> storage;
      core::ParameterList list;
      std::vector<dist::ParameterSpec> specs;
      for (const std::int64_t size : {700, 1, 1300, 40}) {
        core::Parameter& p = storage.emplace_back();
        p.name = fmt::format("p{}", storage.size());
        p.shape = {size};
        list.push_back(&p);
        specs.push_back({p.name, p.shape});
      }
      const dist::ShardedParameters parameters(device, list, dist::ShardPlan(specs, nccl.size(), 750), nccl.rank(), 1,
                                               core::Dtype::float32);
      const int buckets = static_cast<int>(parameters.plan().buckets().size());
      ASSERT_GE(buckets, 2);
      dist::AsyncQueue async(nccl);
      dist::StepGatherer gatherer(parameters, nccl, async);
      for (int round = 1; round <= 5; ++round) {
        set_own_parts(device, parameters, static_cast<float>(round));
        for (int b = 0; b < buckets; ++b) gatherer.updated(b);
        std::vector<Tensor> seen;
        for (core::Parameter* p : list) {
          gatherer.acquire({{p}});
          seen.push_back(Tensor::empty(device, p->shape, core::Dtype::float32, core::Category::other));
          seen.back().copy_from(device.queue(), p->value);
        }
        for (const Tensor& t : seen)
          for (const float x : core::HostView(device.queue(), t, core::Access::read).span<float>())
            ASSERT_EQ(x, static_cast<float>(round));
      }
      gatherer.finish();
    });
  }
}

}  // namespace
}  // namespace muonp::test
