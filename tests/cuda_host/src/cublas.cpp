#include "cublas_v2.h"

#include <algorithm>
#include <set>

#include "gemm.h"
#include "runtime.h"

struct cublasContext {
  int device;
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
  cublasMath_t math_mode = CUBLAS_DEFAULT_MATH;
};

namespace {

using cuda_host::Gemm;
using cuda_host::GemmMatrix;
using cuda_host::Hold;
using cuda_host::runtime;

// How much of a workspace a product writes: enough to be seen.
constexpr size_t kWorkspaceUsed = 4096;

// Success, or why a call with this handle cannot go on.
cublasStatus_t enter(const char* function, cublasHandle_t handle) {
  {
    Hold hold(runtime().lock);
    if (!runtime().cublas_handles.contains(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  }
  switch (cuda_host::admit(function)) {
    case cudaSuccess:
      break;
    case cudaErrorMemoryAllocation:
      return CUBLAS_STATUS_ALLOC_FAILED;
    case cudaErrorCudartUnloading:
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
      return CUBLAS_STATUS_NOT_INITIALIZED;
    default:
      return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  if (handle->device != cuda_host::current_device_index()) {
    cuda_host::report(std::string(function) + ": the handle is of device " + std::to_string(handle->device) + ", device " +
                      std::to_string(cuda_host::current_device_index()) + " is current");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

bool supported(cudaDataType a, cudaDataType b, cudaDataType c, cublasComputeType_t compute) {
  if (a != b) return false;
  if (a == CUDA_R_32F) return c == CUDA_R_32F;
  const bool half = a == CUDA_R_16F || a == CUDA_R_16BF;
  return half && (c == a || c == CUDA_R_32F) && compute != CUBLAS_COMPUTE_32F_FAST_TF32;
}

bool known(cublasOperation_t operation) { return operation >= CUBLAS_OP_N && operation <= CUBLAS_OP_C; }

cublasStatus_t check_values(const Gemm& g, cublasGemmAlgo_t algorithm) {
  if (g.m < 0 || g.n < 0 || g.k < 0 || g.batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
  for (const GemmMatrix* matrix : {&g.a, &g.b, &g.c}) {
    if (matrix->ld < std::max<int64_t>(1, matrix->rows)) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool known_algorithm = algorithm >= CUBLAS_GEMM_DEFAULT && algorithm <= CUBLAS_GEMM_DEFAULT_TENSOR_OP;
  return known_algorithm ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

bool on_host(const char* function, const char* name, const void* scalar) {
  if (cuda_host::locate(function, name, scalar, sizeof(float)).place == cuda_host::Place::kPageable) return true;
  cuda_host::report(std::string(function) + ": " + name + " must be host memory in the host pointer mode");
  return false;
}

bool check_workspace(const char* function, void* workspace, size_t bytes) {
  const auto at = cuda_host::locate(function, "workspace", workspace, bytes);
  if (at.place == cuda_host::Place::kPageable) {
    cuda_host::report(std::string(function) + ": workspace: " + cuda_host::hex(workspace) + " is host memory");
  }
  return at.place == cuda_host::Place::kDevice;
}

cublasStatus_t multiply(const char* function, cublasHandle_t handle, const Gemm& g) {
  CUstream_st* stream = cuda_host::find_stream(function, handle->stream);
  if (stream == nullptr) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (!cuda_host::check_matrices(function, g, handle->device)) return CUBLAS_STATUS_EXECUTION_FAILED;
  void* workspace = handle->workspace;
  if (workspace != nullptr && !check_workspace(function, workspace, handle->workspace_bytes)) {
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  const size_t used = std::min(handle->workspace_bytes, kWorkspaceUsed);
  cuda_host::submit(*stream, cuda_host::device_bit(handle->device), cuda_host::make_task([g, workspace, used] {
    if (workspace != nullptr) {
      cuda_host::announce_write(workspace, used);
      cuda_host::fill(workspace, cuda_host::kFreshPattern, used);
    }
    cuda_host::run_gemm(g);
  }));
  return CUBLAS_STATUS_SUCCESS;
}

struct StatusText {
  cublasStatus_t status;
  const char* name;
  const char* text;
};
constexpr StatusText kStatuses[] = {
    {CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS", "success"},
    {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED", "the library was not initialized"},
    {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED", "the resource allocation failed"},
    {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE",
     "an unsupported value or parameter was passed to the function"},
    {CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH",
     "the function requires a feature absent from the device architecture"},
    {CUBLAS_STATUS_MAPPING_ERROR, "CUBLAS_STATUS_MAPPING_ERROR", "an access to GPU memory space failed"},
    {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED", "the function failed to launch on the GPU"},
    {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR", "an internal operation failed"},
    {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED", "the functionality requested is not supported"},
    {CUBLAS_STATUS_LICENSE_ERROR, "CUBLAS_STATUS_LICENSE_ERROR",
     "an error was detected when checking the current licensing"},
};

const StatusText* find_status(cublasStatus_t status) {
  const auto* found = std::ranges::find(kStatuses, status, &StatusText::status);
  return found == std::end(kStatuses) ? nullptr : found;
}

}  // namespace

void cuda_host::delete_cublas_handles() {
  for (cublasHandle_t handle : runtime().cublas_handles) delete handle;
  runtime().cublas_handles.clear();
}

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cudaError_t error = cuda_host::admit("cublasCreate"); error != cudaSuccess) {
    return error == cudaErrorMemoryAllocation ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_NOT_INITIALIZED;
  }
  Hold hold(runtime().lock);
  *handle = new cublasContext{cuda_host::current_device_index()};
  runtime().cublas_handles.insert(*handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  if (const cublasStatus_t status = enter("cublasDestroy", handle); status != CUBLAS_STATUS_SUCCESS) return status;
  cuda_host::wait_for_device(handle->device);
  Hold hold(runtime().lock);
  runtime().cublas_handles.erase(handle);
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int* version) {  // documented to take a null handle as well
  if (version == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  if (const cublasStatus_t status = enter("cublasSetStream", handle); status != CUBLAS_STATUS_SUCCESS) return status;
  const CUstream_st* found = cuda_host::find_stream("cublasSetStream", stream);
  if (found == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (found->device != handle->device) {
    cuda_host::report("cublasSetStream: the stream is of device " + std::to_string(found->device) +
                      ", the handle of device " + std::to_string(handle->device));
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  handle->stream = stream;
  handle->workspace = nullptr;
  handle->workspace_bytes = 0;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream) {
  if (const cublasStatus_t status = enter("cublasGetStream", handle); status != CUBLAS_STATUS_SUCCESS) return status;
  if (stream == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, size_t bytes) {
  if (const cublasStatus_t status = enter("cublasSetWorkspace", handle); status != CUBLAS_STATUS_SUCCESS) return status;
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace == nullptr && bytes > 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace != nullptr && !check_workspace("cublasSetWorkspace", workspace, bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = workspace;
  handle->workspace_bytes = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  if (const cublasStatus_t status = enter("cublasSetMathMode", handle); status != CUBLAS_STATUS_SUCCESS) return status;
  const int kind = mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  if (kind != CUBLAS_DEFAULT_MATH && kind != CUBLAS_PEDANTIC_MATH && kind != CUBLAS_TF32_TENSOR_OP_MATH) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  handle->math_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  if (const cublasStatus_t status = enter("cublasGetMathMode", handle); status != CUBLAS_STATUS_SUCCESS) return status;
  if (mode == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *mode = handle->math_mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode) {
  if (const cublasStatus_t status = enter("cublasSetAtomicsMode", handle); status != CUBLAS_STATUS_SUCCESS) return status;
  const bool known_mode = mode == CUBLAS_ATOMICS_ALLOWED || mode == CUBLAS_ATOMICS_NOT_ALLOWED;
  return known_mode ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

const char* cublasGetStatusName(cublasStatus_t status) {
  const StatusText* found = find_status(status);
  return found == nullptr ? "unknown error code" : found->name;
}

const char* cublasGetStatusString(cublasStatus_t status) {
  const StatusText* found = find_status(status);
  return found == nullptr ? "unknown error code" : found->text;
}

namespace {

// The product as it is asked for, in `g`, or why it cannot be.
cublasStatus_t take(const char* function, cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                    const void* alpha, const void* beta, cublasComputeType_t computeType, cublasGemmAlgo_t algo, Gemm& g) {
  if (!known(transa) || !known(transb) || alpha == nullptr || beta == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (computeType != CUBLAS_COMPUTE_32F && computeType != CUBLAS_COMPUTE_32F_PEDANTIC &&
      computeType != CUBLAS_COMPUTE_32F_FAST_TF32) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  g.transpose_a = transa != CUBLAS_OP_N;
  g.transpose_b = transb != CUBLAS_OP_N;
  const auto stored = [](GemmMatrix& x, bool transposed, int64_t rows, int64_t columns) {
    x.rows = transposed ? columns : rows;
    x.columns = transposed ? rows : columns;
  };
  stored(g.a, g.transpose_a, g.m, g.k);
  stored(g.b, g.transpose_b, g.k, g.n);
  stored(g.c, false, g.m, g.n);
  if (const cublasStatus_t status = check_values(g, algo); status != CUBLAS_STATUS_SUCCESS) return status;
  if (!supported(g.a.type, g.b.type, g.c.type, computeType)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (g.m == 0 || g.n == 0 || g.batch == 0) return CUBLAS_STATUS_SUCCESS;
  if (g.c.data == nullptr || (g.k > 0 && (g.a.data == nullptr || g.b.data == nullptr))) return CUBLAS_STATUS_INVALID_VALUE;
  // Seen with cuBLAS 13.1 on an H200: a row times a matrix of more columns than a grid has blocks.
  if (g.m == 1 && g.n > 65535 && g.a.type != CUDA_R_32F) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (!on_host(function, "alpha", alpha) || !on_host(function, "beta", beta)) return CUBLAS_STATUS_INVALID_VALUE;
  g.alpha = *static_cast<const float*>(alpha);
  g.beta = *static_cast<const float*>(beta);
  const int mode = handle->math_mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  g.tf32 = computeType == CUBLAS_COMPUTE_32F_FAST_TF32 ||
           (computeType == CUBLAS_COMPUTE_32F && mode == CUBLAS_TF32_TENSOR_OP_MATH && g.a.type == CUDA_R_32F);
  g.narrow_sums = (handle->math_mode & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) == 0;
  return CUBLAS_STATUS_SUCCESS;
}

bool is_empty(const Gemm& g) { return g.m == 0 || g.n == 0 || g.batch == 0; }

}  // namespace

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                                          int n, int k, const void* alpha, const void* A, cudaDataType Atype, int lda,
                                          long long strideA, const void* B, cudaDataType Btype, int ldb, long long strideB,
                                          const void* beta, void* C, cudaDataType Ctype, int ldc, long long strideC,
                                          int batchCount, cublasComputeType_t computeType, cublasGemmAlgo_t algo) {
  const char* const function = batchCount == 1 ? "cublasGemmEx" : "cublasGemmStridedBatchedEx";
  if (const cublasStatus_t status = enter(function, handle); status != CUBLAS_STATUS_SUCCESS) return status;
  Gemm g{.m = m,
         .n = n,
         .k = k,
         .a = {A, Atype, 0, 0, lda, strideA},
         .b = {B, Btype, 0, 0, ldb, strideB},
         .c = {C, Ctype, 0, 0, ldc, strideC},
         .batch = batchCount};
  const cublasStatus_t status = take(function, handle, transa, transb, alpha, beta, computeType, algo, g);
  return status != CUBLAS_STATUS_SUCCESS || is_empty(g) ? status : multiply(function, handle, g);
}

cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                                   int k, const void* alpha, const void* const Aarray[], cudaDataType Atype, int lda,
                                   const void* const Barray[], cudaDataType Btype, int ldb, const void* beta,
                                   void* const Carray[], cudaDataType Ctype, int ldc, int batchCount,
                                   cublasComputeType_t computeType, cublasGemmAlgo_t algo) {
  constexpr const char* kFunction = "cublasGemmBatchedEx";
  if (const cublasStatus_t status = enter(kFunction, handle); status != CUBLAS_STATUS_SUCCESS) return status;
  Gemm g{.m = m,
         .n = n,
         .k = k,
         .a = {Aarray, Atype, 0, 0, lda, 0},
         .b = {Barray, Btype, 0, 0, ldb, 0},
         .c = {Carray, Ctype, 0, 0, ldc, 0},
         .batch = batchCount};
  const cublasStatus_t status = take(kFunction, handle, transa, transb, alpha, beta, computeType, algo, g);
  if (status != CUBLAS_STATUS_SUCCESS || is_empty(g)) return status;
  for (const void* array :
       {static_cast<const void*>(Aarray), static_cast<const void*>(Barray), static_cast<const void*>(Carray)}) {
    const size_t bytes = sizeof(void*) * static_cast<size_t>(batchCount);
    if (cuda_host::locate(kFunction, "an array of pointers", array, bytes).place == cuda_host::Place::kDevice) continue;
    cuda_host::report(std::string(kFunction) + ": an array of pointers is not in the device's memory");
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  CUstream_st* stream = cuda_host::find_stream(kFunction, handle->stream);
  if (stream == nullptr) return CUBLAS_STATUS_EXECUTION_FAILED;
  g.batch = 1;
  cuda_host::submit(*stream, cuda_host::device_bit(handle->device),
                    cuda_host::make_task([g, batchCount, Aarray, Barray, Carray, device = handle->device] {
                      for (int i = 0; i < batchCount; ++i) {
                        Gemm one = g;
                        one.a.data = Aarray[i];
                        one.b.data = Barray[i];
                        one.c.data = Carray[i];
                        for (const GemmMatrix* matrix : {&one.a, &one.b, &one.c}) {
                          if (reinterpret_cast<uintptr_t>(matrix->data) % 16 == 0) continue;
                          cuda_host::report(std::string(kFunction) + ": " + cuda_host::hex(matrix->data) +
                                            " is not at a multiple of 16 bytes");
                        }
                        if (cuda_host::check_matrices(kFunction, one, device)) cuda_host::run_gemm(one);
                      }
                    }));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
                            const void* alpha, const void* A, cudaDataType Atype, int lda, const void* B, cudaDataType Btype,
                            int ldb, const void* beta, void* C, cudaDataType Ctype, int ldc, cublasComputeType_t computeType,
                            cublasGemmAlgo_t algo) {
  return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, A, Atype, lda, 0, B, Btype, ldb, 0, beta, C,
                                    Ctype, ldc, 0, 1, computeType, algo);
}
