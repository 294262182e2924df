// Our own attention for GPUs, as one operation: no score leaves the chip (Dao 2023, "FlashAttention-2", algorithms 1 and 2).
// bfloat16 on the tensor cores and float32 on the others, for all that attention can be asked for here: heads of 1 to
// kLargestGpuHead elements, windows, documents, query heads that share keys, any length, the largest scores. Tiles of keys
// that a tile of queries does not see are not read. Rows of heads that are no multiple of 16 bytes are copied element by
// element, which is slower.
//
// Forward: a block of threads takes a tile of queries of a head and goes through the tiles of keys; it keeps each row's
// largest score so far and scales what it has when that rises. Backward computes the weights again from the kept logarithms,
// once for the gradient of each tile of queries and once for those of each tile of keys, whose block goes through the query
// heads that share it: seven products where five would do, but no sum is shared by blocks, so that every bit repeats.
#pragma once

#include "core/device/attention_shape.h"
#include "core/device/tensor.h"

namespace muonp::core::cuda {

// As core::attention_forward and core::attention_backward (core/device/attention.h). InternalError for larger heads.
void flash_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins, const Tensor& out,
                   const Tensor& logsumexp, const Tensor& maxima);
void flash_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins, const Tensor& out,
                    const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);

// As core::attention_with_cache, all sequences at once, after the new keys and values have been stored. lengths: int32
// [batch], of what each sequence had before.
void flash_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                      const Tensor& values, const Tensor& lengths, const Tensor& out);

}  // namespace muonp::core::cuda
