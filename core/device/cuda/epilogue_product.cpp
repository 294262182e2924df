#include "core/device/cuda/epilogue_product.h"

#include <algorithm>
#include <bit>

#include "core/device/cuda/blas_types.h"

namespace muonp::core::cuda {

namespace {

template <class T, auto create, auto destroy, class... Arguments>
Handle<T, destroy> made(Arguments... arguments) {
  T handle = nullptr;
  MUONP_CUDA(create(&handle, arguments...));
  return Handle<T, destroy>(handle);
}
using Operation = Handle<cublasLtMatmulDesc_t, &cublasLtMatmulDescDestroy>;
using Layout = Handle<cublasLtMatrixLayout_t, &cublasLtMatrixLayoutDestroy>;
using Preference = Handle<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceDestroy>;

// As stored: the transpose of the row-major matrix.
Layout layout_of(const MatrixView& view) {
  return made<cublasLtMatrixLayout_t, &cublasLtMatrixLayoutCreate, &cublasLtMatrixLayoutDestroy>(
      type_of(view.dtype), static_cast<std::uint64_t>(view.cols), static_cast<std::uint64_t>(view.rows),
      std::max<std::int64_t>(1, view.stride));
}

// The largest power of two that divides the address; more than 256 makes no difference to the library.
std::uint32_t alignment_of(const void* data) {
  constexpr std::uintptr_t kMost = 256;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(data) | kMost;
  return std::uint32_t{1} << std::countr_zero(address);
}

template <class T>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  MUONP_CUDA(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value));
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  MUONP_CUDA(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value));
}

cublasLtEpilogue_t epilogue_of(const Epilogue& e) {
  switch (e.gelu) {
    case Epilogue::Gelu::none:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::Gelu::value:
      return e.bias != nullptr ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case Epilogue::Gelu::slope:
      return CUBLASLT_EPILOGUE_DGELU;
  }
  MUONP_ASSERT(false, "epilogue {}", static_cast<int>(e.gelu));
}

// What the library reads and writes beside the product's own matrices.
void set_arrays(const Operation& operation, const Epilogue& e) {
  if (e.bias != nullptr) set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, e.bias);
  if (e.gelu == Epilogue::Gelu::none) return;
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, e.before.data);
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, e.before.stride);
}

// The library takes what gelu is of in whole 16 bytes, from row to row too (cublasLt.h).
bool is_aligned(const Epilogue& e) {
  constexpr std::uint32_t kBytes = 16;
  return alignment_of(e.before.data) >= kBytes && e.before.stride * size_of(e.before.dtype) % kBytes == 0;
}

}  // namespace

struct EpilogueProducts::Plan {
  Operation operation;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
};

EpilogueProducts::EpilogueProducts() : library_(made<cublasLtHandle_t, &cublasLtCreate, &cublasLtDestroy>()) {
  int device = 0, capability = 0;
  MUONP_CUDA(cudaGetDevice(&device));
  MUONP_CUDA(cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor, device));
  gelu_pays_ = capability >= 9 && capability < 12;
}
EpilogueProducts::~EpilogueProducts() = default;

const EpilogueProducts::Plan* EpilogueProducts::plan_of(const Product& p, std::size_t workspace_bytes) {
  constexpr std::size_t kMostPlans = 4096;  // generation meets new lengths again and again
  const cublasLtEpilogue_t epilogue = epilogue_of(p.epilogue);
  const std::array<std::uint32_t, 5> aligned = {alignment_of(p.a.data), alignment_of(p.b.data), alignment_of(p.c.data),
                                                alignment_of(p.epilogue.bias), alignment_of(p.epilogue.before.data)};
  const Key key{p.m, p.n, p.k, p.a.stride, p.b.stride, p.c.stride, p.op_a, p.op_b, p.a.dtype, epilogue, aligned};
  if (const auto found = plans_.find(key); found != plans_.end()) return found->second.get();
  if (plans_.size() >= kMostPlans) plans_.clear();

  Plan plan{made<cublasLtMatmulDesc_t, &cublasLtMatmulDescCreate, &cublasLtMatmulDescDestroy>(compute_type_of(p.a.dtype),
                                                                                              CUDA_R_32F),
            layout_of(p.a), layout_of(p.b), layout_of(p.c)};
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, operation_of(p.op_b));
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, operation_of(p.op_a));
  set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  set_arrays(plan.operation, p.epilogue);

  const auto preference =
      made<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceCreate, &cublasLtMatmulPreferenceDestroy>();
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  // Parts of a sum that is split are neither added by atomics nor rounded to the result's 16 bits.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, aligned[1]);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, aligned[0]);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, aligned[2]);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, aligned[2]);

  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(library_.get(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.c.get(),
                                     plan.c.get(), preference.get(), 1, &result, &found);
  const bool known = status == CUBLAS_STATUS_SUCCESS && found > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic");
  plan.algorithm = result.algo;
  return plans_.emplace(key, known ? std::make_unique<const Plan>(std::move(plan)) : nullptr).first->second.get();
}

bool EpilogueProducts::multiply(const Product& p, cudaStream_t stream, void* workspace, std::size_t workspace_bytes) {
  if (p.n == 1 || p.k == 1) return false;  // vectors, of which the library has refused some
  if (p.epilogue.gelu != Epilogue::Gelu::none)
    if (!gelu_pays_ || p.a.dtype != Dtype::bfloat16 || !is_aligned(p.epilogue)) return false;
  const Plan* plan = plan_of(p, workspace_bytes);
  if (!plan) return false;
  set_arrays(plan->operation, p.epilogue);
  const float beta = 0;
  MUONP_CUDA(cublasLtMatmul(library_.get(), plan->operation.get(), &p.alpha, p.b.data, plan->b.get(), p.a.data,
                            plan->a.get(), &beta, p.c.data, plan->c.get(), p.c.data, plan->c.get(), &plan->algorithm,
                            workspace, workspace_bytes, stream));
  return true;
}

}  // namespace muonp::core::cuda
