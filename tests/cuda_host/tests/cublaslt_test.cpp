// One product with a bias or gelu, and what is refused.
#include "cublasLt.h"

#include "cuda_host_fixture.h"

namespace {

// D = A·B + bias: [2, 3]·[3, 2], column-major.
class CublasLt : public CudaHost {
 protected:
  void SetUp() override {
    CudaHost::SetUp();
    ASSERT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatrixLayoutCreate(&a_layout_, CUDA_R_32F, 2, 3, 2), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatrixLayoutCreate(&b_layout_, CUDA_R_32F, 3, 2, 3), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatrixLayoutCreate(&d_layout_, CUDA_R_32F, 2, 2, 2), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatmulPreferenceCreate(&preference_), CUBLAS_STATUS_SUCCESS);
    a_ = device<float>({1, 2, 3, 4, 5, 6});
    b_ = device<float>({1, 0, 0, 0, 1, 1});
    d_ = device<float>(4);
    bias_ = device<float>({10, 20});
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias_));
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  }
  void TearDown() override {
    for (float* memory : {a_, b_, d_, bias_}) EXPECT_EQ(cudaFree(memory), cudaSuccess);
    for (cublasLtMatrixLayout_t layout : {a_layout_, b_layout_, d_layout_}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatmulDescDestroy(operation_);
    cublasLtDestroy(handle_);
    CudaHost::TearDown();
  }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    ASSERT_EQ(cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof value), CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    ASSERT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof value), CUBLAS_STATUS_SUCCESS);
  }
  cublasStatus_t find() {
    int found = 0;
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a_layout_, b_layout_, d_layout_,
                                                                 d_layout_, preference_, 1, &result, &found);
    algorithm_ = result.algo;
    return status;
  }
  cublasStatus_t multiply(const float* a) {
    const float one = 1, zero = 0;
    return cublasLtMatmul(handle_, operation_, &one, a, a_layout_, b_, b_layout_, &zero, d_, d_layout_, d_, d_layout_,
                          &algorithm_, nullptr, 0, nullptr);
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t a_layout_ = nullptr, b_layout_ = nullptr, d_layout_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_{};
  float *a_ = nullptr, *b_ = nullptr, *d_ = nullptr, *bias_ = nullptr;
};

TEST_F(CublasLt, TheBiasIsAddedToEachColumn) {
  ASSERT_EQ(find(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(multiply(a_), CUBLAS_STATUS_SUCCESS);
  EXPECT_THAT(host(d_, 4), testing::ElementsAre(11, 22, 18, 30));
}

TEST_F(CublasLt, AnAlgorithmIsForWhatItWasFoundFor) {
  cuda_host::CollectReports collected;
  EXPECT_EQ(multiply(a_), CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"does not come from cublasLtMatmulAlgoGetHeuristic"});
  ASSERT_EQ(find(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(multiply(a_ + 1), CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"A: ", "is not aligned to 256 bytes"});
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{64});
  ASSERT_EQ(find(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(multiply(a_), CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"the workspace is smaller"});
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
  ASSERT_EQ(find(), CUBLAS_STATUS_SUCCESS);
  set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_T);
  EXPECT_EQ(multiply(a_), CUBLAS_STATUS_INVALID_VALUE);  // [2, 3]·[2, 3]
}

TEST_F(CublasLt, SumsByAtomicsAndForeignBiasesAreReported) {
  cuda_host::CollectReports collected;
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_INPLACE});
  EXPECT_EQ(find(), CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"sums by atomics"});
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  const float on_host[2] = {};
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(on_host));
  ASSERT_EQ(find(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(multiply(a_), CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"the bias is not memory of the current device"});
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
  EXPECT_EQ(find(), CUBLAS_STATUS_NOT_SUPPORTED);
}

// In columns of 8, of which the result has 2.
TEST_F(CublasLt, GeluKeepsWhatItIsOf) {
  cuda_host::CollectReports collected;
  const auto gelu = [](double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); };
  auto* before = device<float>(16);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<const void*>(before));
  set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{8});
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX);
  ASSERT_EQ(find(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(multiply(a_), CUBLAS_STATUS_SUCCESS);
  std::vector<float> kept = host(before, 16), result = host(d_, 4);
  const double products[] = {1, 2, 8, 10};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(kept[i / 2 * 8 + i % 2], products[i]);
    EXPECT_FLOAT_EQ(result[i], static_cast<float>(gelu(products[i])));
  }
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
  EXPECT_EQ(multiply(a_), CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"found for other sizes or another epilogue"});
  ASSERT_EQ(find(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(multiply(a_), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(host(before, 2), (std::vector<float>{11, 22}));

  const std::vector<float> points = {-1.5f, 0.25f, 0, 0, 0, 0, 0, 0, 3, -0.5f};
  ASSERT_EQ(cudaMemcpy(before, points.data(), 4 * points.size(), cudaMemcpyHostToDevice), cudaSuccess);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DGELU);
  ASSERT_EQ(find(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(multiply(a_), CUBLAS_STATUS_SUCCESS);
  result = host(d_, 4);
  for (std::size_t i = 0; i < 4; ++i) {
    const double x = points[i / 2 * 8 + i % 2], h = 1e-5;
    EXPECT_NEAR(result[i], products[i] * (gelu(x + h) - gelu(x - h)) / (2 * h), 1e-4 * products[i]);
  }
  EXPECT_EQ(cudaFree(before), cudaSuccess);
}

TEST_F(CublasLt, WhatGeluIsOfIsAlignedApartAndOnTheDevice) {
  cuda_host::CollectReports collected;
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX);
  EXPECT_EQ(find(), CUBLAS_STATUS_INVALID_VALUE) << "none is given";
  auto* before = device<float>(20);
  const auto of = [&](const float* data, int64_t ld) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<const void*>(data));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld);
    return find();
  };
  EXPECT_EQ(of(before, 2), CUBLAS_STATUS_INVALID_VALUE) << "columns that 8 does not divide";
  EXPECT_EQ(of(before + 1, 8), CUBLAS_STATUS_INVALID_VALUE) << "no multiple of 16 bytes";
  alignas(16) const float on_host[16] = {};
  ASSERT_EQ(of(on_host, 8), CUBLAS_STATUS_SUCCESS);
  EXPECT_NE(multiply(a_), CUBLAS_STATUS_SUCCESS);
  expect_report({"what gelu is of", "pageable"});
  std::swap(before, d_);
  ASSERT_EQ(of(d_, 8), CUBLAS_STATUS_SUCCESS);
  EXPECT_NE(multiply(a_), CUBLAS_STATUS_SUCCESS);
  expect_report({"C overlaps what gelu is of"});
  EXPECT_EQ(cudaFree(before), cudaSuccess);
}

}  // namespace
