// Products whose epilogue cuBLASLt makes: a bias is added, and gelu or its slope taken, before the result is stored.
//
// Gelu only in bfloat16, where the library's fast functions are exact enough, and on GPUs of compute capability 9 to 11:
// there others have measured that it pays (github.com/karpathy/llm.c, pull request 653, H100; github.com/sgl-project/sglang,
// pull requests 28168 and 34350, B200 and H200), and on 8 and 12 that it does not (llm.c, pull request 338; sglang, 34350).
#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <map>
#include <memory>
#include <tuple>

#include "core/device/blas.h"
#include "core/device/cuda/handle.h"

namespace muonp::core::cuda {

class EpilogueProducts {
 public:
  EpilogueProducts();  // of the current device
  ~EpilogueProducts();
  // A product with an epilogue, on the stream, in the given workspace. Every bit of the result repeats. The first call of a
  // shape asks the library how to compute it; false, and nothing done, where it does not know, or the above says no.
  bool multiply(const Product& product, cudaStream_t stream, void* workspace, std::size_t workspace_bytes);

 private:
  struct Plan;
  // All that the library's choice depends on: the sizes, the strides, the epilogue and how the five arrays are aligned.
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, Op, Op, Dtype,
                         cublasLtEpilogue_t, std::array<std::uint32_t, 5>>;
  const Plan* plan_of(const Product& product, std::size_t workspace_bytes);

  Handle<cublasLtHandle_t, &cublasLtDestroy> library_;
  bool gelu_pays_ = false;
  std::map<Key, std::unique_ptr<const Plan>> plans_;  // null: not known
};

}  // namespace muonp::core::cuda
