#include "cublasLt.h"

#include <algorithm>
#include <cstring>

#include "gemm.h"
#include "runtime.h"

struct cublasLtContext {
  int device;
};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  const void* aux = nullptr;
  int64_t aux_ld = 0;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t ld;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace = 0;
  uint32_t schemes = 7;
  uint32_t alignments[4] = {256, 256, 256, 256};  // of A, B, C, D: the library's defaults
};

namespace {

using cuda_host::Gemm;

constexpr uint64_t kMagic = 0x6d756f6e702d6c74;

template <class T>
cublasStatus_t create(T** to, T value) {
  if (to == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *to = new T(value);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t destroy(T* what) {
  if (what == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  delete what;
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t assign(T& to, const void* from, size_t bytes) {
  if (from == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t reported(const std::string& text) {
  cuda_host::report("cublasLtMatmul: " + text);
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t describe_epilogue(const cublasLtMatmulDescOpaque_t& operation, Gemm& g) {
  const cublasLtEpilogue_t epilogue = operation.epilogue;
  const bool biased = epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  if (epilogue == CUBLASLT_EPILOGUE_DGELU) g.gelu = cuda_host::Gelu::slope;
  if (epilogue == CUBLASLT_EPILOGUE_GELU_AUX || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) g.gelu = cuda_host::Gelu::value;
  const bool gelu = g.gelu != cuda_host::Gelu::none;
  if (!biased && !gelu) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (biased && operation.bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (biased) g.bias = operation.bias;
  if (!gelu) return CUBLAS_STATUS_SUCCESS;
  if (operation.aux == nullptr || operation.aux_ld % 8 != 0 || operation.aux_ld < g.m) return CUBLAS_STATUS_INVALID_VALUE;
  if (reinterpret_cast<uintptr_t>(operation.aux) % 16 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  g.before = {operation.aux, g.c.type, g.m, g.n, operation.aux_ld, 0};
  return CUBLAS_STATUS_SUCCESS;
}

// The product without its data, or why it cannot be.
cublasStatus_t describe(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                        cublasLtMatrixLayout_t d, Gemm& g) {
  if (operation == nullptr || a == nullptr || b == nullptr || d == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const auto stored = [](const cublasLtMatrixLayoutOpaque_t& x) -> cuda_host::GemmMatrix {
    return {nullptr, x.type, static_cast<int64_t>(x.rows), static_cast<int64_t>(x.columns), x.ld, 0};
  };
  g = {};
  g.transpose_a = operation->a != CUBLAS_OP_N;
  g.transpose_b = operation->b != CUBLAS_OP_N;
  g.a = stored(*a);
  g.b = stored(*b);
  g.c = stored(*d);
  g.m = g.c.rows;
  g.n = g.c.columns;
  g.k = g.transpose_a ? g.a.rows : g.a.columns;
  g.batch = 1;
  g.tf32 = operation->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if ((g.transpose_a ? g.a.columns : g.a.rows) != g.m || (g.transpose_b ? g.b.columns : g.b.rows) != g.k ||
      (g.transpose_b ? g.b.rows : g.b.columns) != g.n || g.m == 0 || g.n == 0 || g.k == 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  for (const cuda_host::GemmMatrix* x : {&g.a, &g.b, &g.c}) {
    if (x->ld < x->rows) return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (a->type != b->type || a->type != d->type || (g.tf32 && a->type != CUDA_R_32F)) return CUBLAS_STATUS_NOT_SUPPORTED;
  return describe_epilogue(*operation, g);
}

// What an algorithm is told: the sizes in one number, the alignments in another, the workspace.
cublasLtMatmulAlgo_t algorithm_for(const Gemm& g, const uint32_t (&alignments)[4], uint64_t workspace) {
  uint64_t sizes = 17;
  for (const int64_t x : {g.m, g.n, g.k, g.a.ld, g.b.ld, g.c.ld, int64_t{g.transpose_a}, int64_t{g.transpose_b},
                          static_cast<int64_t>(g.gelu), int64_t{g.bias != nullptr}, g.before.ld}) {
    sizes = sizes * 1099511628211U + static_cast<uint64_t>(x);
  }
  return {{kMagic, sizes, workspace, alignments[0], alignments[1], alignments[2], alignments[3], 0}};
}

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (cuda_host::admit("cublasLtCreate") != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  return create(handle, {cuda_host::current_device_index()});
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* to, cublasComputeType_t compute, cudaDataType scale) {
  if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32) return CUBLAS_STATUS_NOT_SUPPORTED;
  return create(to, {compute});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) { return destroy(operation); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* from, size_t bytes) {
  if (operation == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return assign(operation->a, from, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return assign(operation->b, from, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return assign(operation->epilogue, from, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return assign(operation->bias, from, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return assign(operation->aux, from, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return assign(operation->aux_ld, from, bytes);
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* to, cudaDataType type, uint64_t rows, uint64_t columns,
                                          int64_t ld) {
  return create(to, {type, rows, columns, ld});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* to) { return create(to, {}); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroy(preference); }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* from,
                                                    size_t bytes) {
  if (preference == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return assign(preference->workspace, from, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return assign(preference->schemes, from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return assign(preference->alignments[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], from, bytes);
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int asked,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (c == nullptr || preference == nullptr || asked < 1 || results == nullptr || found == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  Gemm g{};
  *found = 0;
  if (const cublasStatus_t status = describe(operation, a, b, d, g); status != CUBLAS_STATUS_SUCCESS) return status;
  if ((preference->schemes & (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)) != 0) {
    return reported("sums by atomics, or in the result's type, are allowed");
  }
  results[0] = {algorithm_for(g, preference->alignments, preference->workspace), 0, CUBLAS_STATUS_SUCCESS, 1, {}};
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream_handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (cuda_host::admit("cublasLtMatmul") != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (handle->device != cuda_host::current_device_index()) return reported("the handle is of another device");
  if (alpha == nullptr || beta == nullptr || algorithm == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  Gemm g{};
  if (const cublasStatus_t status = describe(operation, a_layout, b_layout, d_layout, g); status != CUBLAS_STATUS_SUCCESS)
    return status;
  g.alpha = *static_cast<const float*>(alpha);
  g.beta = *static_cast<const float*>(beta);
  if (g.beta != 0 || c != d) return CUBLAS_STATUS_NOT_SUPPORTED;
  g.a.data = a;
  g.b.data = b;
  g.c.data = d;

  const uint64_t* told = algorithm->data;
  if (told[0] != kMagic) return reported("the algorithm does not come from cublasLtMatmulAlgoGetHeuristic()");
  const uint32_t alignments[4] = {static_cast<uint32_t>(told[3]), static_cast<uint32_t>(told[4]),
                                  static_cast<uint32_t>(told[5]), static_cast<uint32_t>(told[6])};
  if (told[1] != algorithm_for(g, alignments, told[2]).data[1])
    return reported("the algorithm was found for other sizes or another epilogue");
  if (workspace_bytes < told[2]) return reported("the workspace is smaller than the algorithm was told");
  const void* arrays[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (reinterpret_cast<uintptr_t>(arrays[i]) % alignments[i] != 0)
      return reported(std::string(1, "ABCD"[i]) + ": " + cuda_host::hex(arrays[i]) + " is not aligned to " +
                      std::to_string(alignments[i]) + " bytes, as the algorithm was told");
  }
  const auto bias_bytes = static_cast<size_t>(g.m * cuda_host::element_bytes(g.c.type));
  const auto on_device = [&](const char* name, const void* data, size_t bytes) {
    const cuda_host::Location at = cuda_host::locate("cublasLtMatmul", name, data, bytes);
    return at.place == cuda_host::Place::kDevice && at.device == handle->device;
  };
  if (g.bias != nullptr && !on_device("bias", g.bias, bias_bytes))
    return reported("the bias is not memory of the current device");
  if (workspace_bytes > 0 && !on_device("workspace", workspace, workspace_bytes))
    return reported("the workspace is not memory of the current device");
  if (!cuda_host::check_matrices("cublasLtMatmul", g, handle->device)) return CUBLAS_STATUS_EXECUTION_FAILED;
  CUstream_st* stream = cuda_host::find_stream("cublasLtMatmul", stream_handle);
  if (stream == nullptr) return CUBLAS_STATUS_EXECUTION_FAILED;
  cuda_host::submit(*stream, cuda_host::device_bit(handle->device), cuda_host::make_task([g] { cuda_host::run_gemm(g); }));
  return CUBLAS_STATUS_SUCCESS;
}
