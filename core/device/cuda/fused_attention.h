// Attention as one fused operation of a library: no score leaves the chip in the forward pass. bfloat16. Every bit of the
// gradients repeats: cuDNN's faster backward pass adds with atomics, so the one is taken that keeps the gradients of the
// scores, time² of two bytes a head, for a few heads at a time (core/device/attention_shape.h).
#pragma once

#include <compare>
#include <memory>
#include <string>

#include "core/device/attention_shape.h"
#include "core/device/tensor.h"

namespace muonp::core::cuda {

// Some heads of some sequences, with a key head for each query head. The heads of a row lie one behind the other.
struct AttentionPart {
  std::int64_t batch, heads, time, size;
  std::int64_t query_row, key_row, result_row;  // elements between rows: of queries, of keys and values, of the result
  auto operator<=>(const AttentionPart&) const = default;
};
struct HeadPointers {  // the first elements
  void *q, *k, *v;
};

class FusedAttention {
 public:
  virtual ~FusedAttention() = default;
  // As core::attention_forward and core::attention_backward (core/device/attention.h), in bfloat16, of shapes that
  // fusion_refusal() does not refuse. Keys and values that query heads share are copied once for each of them, and the
  // gradients of the copies, rounded to bfloat16, are summed. The first call with a shape plans it, which costs the host
  // about a second.
  void forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out, const Tensor& logsumexp);
  void backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out, const Tensor& logsumexp,
                const Tensor& dout, const Tensor& dqkv);

 private:
  // logsumexp: float32, the rows of the part's heads one behind the other. Gradients lie as what they are of.
  virtual void run_forward(const AttentionPart& part, const HeadPointers& in, void* out, void* logsumexp) = 0;
  virtual void run_backward(const AttentionPart& part, const HeadPointers& in, void* out, void* logsumexp, void* dout,
                            const HeadPointers& gradients) = 0;
};

// Why it cannot be had in this process, and what to do; or an empty string.
std::string fusion_library_refusal();
std::string fusion_library();  // "cuDNN 9.19.0", where there is no refusal
// Works on the device's queue. Error where fusion_library_refusal() says so.
std::unique_ptr<FusedAttention> make_fused_attention(Device& device);

}  // namespace muonp::core::cuda
