// The stand-in's attention in the place of cuDNN's.
#include "core/device/cuda/fused_attention.h"

#include "core/device/cuda/queue.h"
#include "cuda_host_attention.h"

namespace muonp::core::cuda {

namespace {

class HostAttention final : public FusedAttention {
 public:
  explicit HostAttention(Device& device) : device_(device) {}

 private:
  static cuda_host::AttentionCall call_of(const AttentionPart& p, const HeadPointers& in, void* out, void* logsumexp) {
    return {p.batch,
            p.heads,
            p.time,
            p.size,
            {in.q, p.query_row},
            {in.k, p.key_row},
            {in.v, p.key_row},
            {out, p.result_row},
            static_cast<float*>(logsumexp)};
  }

  void run_forward(const AttentionPart& p, const HeadPointers& in, void* out, void* logsumexp) override {
    cuda_host::attention_forward(stream_of(device_.queue()), call_of(p, in, out, logsumexp));
  }
  void run_backward(const AttentionPart& p, const HeadPointers& in, void* out, void* logsumexp, void* dout,
                    const HeadPointers& gradients) override {
    const std::int64_t tiles = (p.time + 127) / 128 * 128;
    const Tensor workspace = Tensor::empty(device_, {p.batch * p.heads * p.time * (2 * tiles + 4)}, Dtype::uint8,
                                           Category::activations);  // what cuDNN takes: the gradients of the scores
    cuda_host::attention_backward(stream_of(device_.queue()), call_of(p, in, out, logsumexp), {dout, p.result_row},
                                  {gradients.q, p.query_row}, {gradients.k, p.key_row}, {gradients.v, p.key_row});
  }

  Device& device_;
};

}  // namespace

std::string fusion_library_refusal() { return ""; }
std::string fusion_library() { return "the stand-in"; }
std::unique_ptr<FusedAttention> make_fused_attention(Device& device) { return std::make_unique<HostAttention>(device); }

}  // namespace muonp::core::cuda
