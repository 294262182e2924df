// What stands in for cuDNN's attention: causal attention of bfloat16 as one operation of a stream, with sums in double
// precision and roundings to bfloat16 where cuDNN's engines have them, before each product.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

namespace cuda_host {

// A head is [time, size], its rows `row` elements apart; heads of a sequence are `size` elements apart, sequences time·row.
struct Heads {
  void* data;
  int64_t row;
};
struct AttentionCall {
  int64_t batch, heads, time, size;
  Heads q, k, v, out;
  float* logsumexp;  // [batch, heads, time]
};

// Reports tensors that are not within one live allocation of the current device, or results that overlap what is read. They
// are not computed then.
void attention_forward(cudaStream_t stream, const AttentionCall& call);
// Reads out and logsumexp.
void attention_backward(cudaStream_t stream, const AttentionCall& call, const Heads& dout, const Heads& dq, const Heads& dk,
                        const Heads& dv);

}  // namespace cuda_host
