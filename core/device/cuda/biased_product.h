// Products with a bias, which cuBLASLt adds before the result is stored.
#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <map>
#include <memory>
#include <tuple>

#include "core/device/blas.h"
#include "core/device/cuda/handle.h"

namespace muonp::core::cuda {

class BiasedProducts {
 public:
  BiasedProducts();
  ~BiasedProducts();
  // A product with a bias and beta = 0, on the stream, in the given workspace. Every bit of the result repeats. The first
  // call of a shape asks the library how to compute it; false, and nothing done, where it does not know.
  bool multiply(const Product& product, cudaStream_t stream, void* workspace, std::size_t workspace_bytes);

 private:
  struct Plan;
  // All that the library's choice depends on: the sizes, the strides and how the four arrays are aligned.
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, Op, Op, Dtype,
                         std::array<std::uint32_t, 4>>;
  const Plan* plan_of(const Product& product, std::size_t workspace_bytes);

  Handle<cublasLtHandle_t, &cublasLtDestroy> library_;
  std::map<Key, std::unique_ptr<const Plan>> plans_;  // null: not known
};

}  // namespace muonp::core::cuda
