// Host stand-in for the part of cuBLAS that the back end uses; names, values and signatures are the toolkit's
// (13).
//
// Column-major: element (i, j) of a matrix with leading dimension ld is at i + j * ld. Calls run in the order
// of the handle's stream. For every call: CUBLAS_STATUS_NOT_INITIALIZED without a live handle. Reported
// besides: a handle used while another device than its own is current.
#pragma once

#include <cstddef>

#include "driver_types.h"
#include "library_types.h"

#define CUBLAS_VER_MAJOR 13
#define CUBLAS_VER_MINOR 1
#define CUBLAS_VER_PATCH 0
#define CUBLAS_VERSION (CUBLAS_VER_MAJOR * 10000 + CUBLAS_VER_MINOR * 100 + CUBLAS_VER_PATCH)

using cublasHandle_t = struct cublasContext*;

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_ARCH_MISMATCH = 8,
  CUBLAS_STATUS_MAPPING_ERROR = 11,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_INTERNAL_ERROR = 14,
  CUBLAS_STATUS_NOT_SUPPORTED = 15,
  CUBLAS_STATUS_LICENSE_ERROR = 16
};
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 };
enum cublasAtomicsMode_t { CUBLAS_ATOMICS_NOT_ALLOWED = 0, CUBLAS_ATOMICS_ALLOWED = 1 };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT = -1, CUBLAS_GEMM_DEFAULT_TENSOR_OP = 99 };
enum cublasMath_t {
  CUBLAS_DEFAULT_MATH = 0,
  CUBLAS_PEDANTIC_MATH = 2,
  CUBLAS_TF32_TENSOR_OP_MATH = 3,
  CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16
};
enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_PEDANTIC = 69, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 };

extern "C" {

cublasStatus_t cublasCreate(cublasHandle_t* handle);  // for the current device
cublasStatus_t cublasDestroy(cublasHandle_t handle);  // waits for the device
cublasStatus_t cublasGetVersion(cublasHandle_t handle, int* version);
// Gives the workspace back to the library's own, as documented: set the workspace after the stream.
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream);
// CUBLAS_STATUS_INVALID_VALUE: not 256-byte aligned, or null with bytes. Reported: not within one live
// allocation, then and at each use. Every product writes to the workspace, so that sharing it between streams
// shows.
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, size_t bytes);
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode);
cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode);
const char* cublasGetStatusName(cublasStatus_t status);
const char* cublasGetStatusString(cublasStatus_t status);

// C = alpha op(A) op(B) + beta C; op(A) is m x k, op(B) k x n, C m x n. alpha and beta are host floats, read
// during the call. Sums are float32; inputs are rounded to 10 bits of mantissa for
// CUBLAS_COMPUTE_32F_FAST_TF32 and with CUBLAS_TF32_TENSOR_OP_MATH; beta = 0 does not read C.
// CUBLAS_STATUS_INVALID_VALUE: a negative size, an unknown operation or algorithm, null alpha, beta or
// matrix, a leading dimension below max(1, rows as stored). CUBLAS_STATUS_NOT_SUPPORTED: other types than
// float32 throughout (all compute types), float16 or bfloat16 inputs of one type with an output of that type
// or float32 (not FAST_TF32). Reported: a matrix that is not within one live allocation of the handle's
// device or pinned memory, is not aligned to its elements, or is written where the same product reads or
// writes another element; alpha or beta on the device.
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
                            const void* alpha, const void* A, cudaDataType Atype, int lda, const void* B, cudaDataType Btype,
                            int ldb, const void* beta, void* C, cudaDataType Ctype, int ldc, cublasComputeType_t computeType,
                            cublasGemmAlgo_t algo);

// The same for batchCount >= 0 matrices, strides in elements apart; a stride of 0 shares an input.
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                                          int n, int k, const void* alpha, const void* A, cudaDataType Atype, int lda,
                                          long long strideA, const void* B, cudaDataType Btype, int ldb, long long strideB,
                                          const void* beta, void* C, cudaDataType Ctype, int ldc, long long strideC,
                                          int batchCount, cublasComputeType_t computeType, cublasGemmAlgo_t algo);

// The same of matrices where the batchCount pointers of three arrays in the device's memory say, which are read when the
// product is carried out. Reported: an array that is not there; a matrix that is not at a multiple of 16 bytes, which real
// kernels may want of all of them and cannot see before.
cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                                   int k, const void* alpha, const void* const Aarray[], cudaDataType Atype, int lda,
                                   const void* const Barray[], cudaDataType Btype, int ldb, const void* beta,
                                   void* const Carray[], cudaDataType Ctype, int ldc, int batchCount,
                                   cublasComputeType_t computeType, cublasGemmAlgo_t algo);
}
