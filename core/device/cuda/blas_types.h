// What cuBLAS and cuBLASLt are told of a product. They are column-major: a row-major matrix is its transpose there, and
// Cᵀ = op(B)ᵀ·op(A)ᵀ.
#pragma once

#include <cublas_v2.h>

#include "core/device/blas.h"

namespace muonp::core::cuda {

inline cudaDataType_t type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32:
    case Dtype::tf32:
      return CUDA_R_32F;
    case Dtype::bfloat16:
      return CUDA_R_16BF;
    case Dtype::float16:
      return CUDA_R_16F;
    case Dtype::int32:
    case Dtype::uint8:
      break;
  }
  throw InternalError("a product of integers");
}

inline cublasComputeType_t compute_type_of(Dtype operands) {
  return operands == Dtype::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

inline cublasOperation_t operation_of(Op op) { return op == Op::none ? CUBLAS_OP_N : CUBLAS_OP_T; }

}  // namespace muonp::core::cuda
