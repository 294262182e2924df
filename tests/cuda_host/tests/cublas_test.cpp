// Products against float64, in all types, transposes and batches; and what is refused.
#include "cublas_v2.h"

#include <bit>
#include <cmath>
#include <random>

#include "cuda_host_fixture.h"

namespace {

// A number as the type stores it, by a search that shares nothing with the stand-in's conversions: the
// spacing of the numbers around `value`, and rounding to even by nearbyint.
double stored(double value, cudaDataType type) {
  if (type == CUDA_R_32F) return static_cast<double>(static_cast<float>(value));
  if (value == 0) return 0;
  const bool half = type == CUDA_R_16F;
  const int lowest = half ? -14 : -126;
  const int exponent = std::max(std::ilogb(value), lowest);
  const double spacing = std::ldexp(1.0, exponent - (half ? 10 : 7));
  return std::nearbyint(value / spacing) * spacing;
}

std::vector<unsigned char> encode(const std::vector<double>& values, cudaDataType type) {
  std::vector<unsigned char> bytes;
  for (double value : values) {
    uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(value));
    int count = 4;
    if (type == CUDA_R_16BF) {
      bits >>= 16;  // exact: values are stored() ones
      count = 2;
    } else if (type == CUDA_R_16F) {
      const uint32_t sign = bits >> 16 & 0x8000U;
      const double magnitude = std::abs(value);
      const bool normal = magnitude >= 0x1p-14;
      const int exponent = normal ? std::ilogb(magnitude) : -14;
      const auto mantissa = static_cast<uint32_t>(std::ldexp(magnitude, 10 - exponent));
      bits = sign | (normal ? (static_cast<uint32_t>(exponent + 15) << 10) + (mantissa - 1024) : mantissa);
      count = 2;
    }
    for (int i = 0; i < count; ++i) bytes.push_back(static_cast<unsigned char>(bits >> 8 * i));
  }
  return bytes;
}

double decode(const unsigned char* bytes, cudaDataType type) {
  if (type == CUDA_R_32F) {
    float value = 0;
    std::memcpy(&value, bytes, 4);
    return static_cast<double>(value);
  }
  const uint32_t bits = bytes[0] | static_cast<uint32_t>(bytes[1]) << 8;
  if (type == CUDA_R_16BF) return static_cast<double>(std::bit_cast<float>(bits << 16));
  const int exponent = static_cast<int>(bits >> 10 & 31U);
  const double mantissa = static_cast<double>(bits & 1023U) + (exponent == 0 ? 0 : 1024);
  const double magnitude = std::ldexp(mantissa, std::max(exponent, 1) - 25);
  return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

size_t bytes_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

struct Types {
  cudaDataType inputs, output;
  cublasComputeType_t compute;
};

class CublasTest : public CudaHost {
 protected:
  void SetUp() override {
    CudaHost::SetUp();
    ASSERT_EQ(cublasCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasSetMathMode(handle_, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION), CUBLAS_STATUS_SUCCESS);
  }
  void TearDown() override {
    if (handle_ != nullptr) {
      EXPECT_EQ(cublasDestroy(handle_), CUBLAS_STATUS_SUCCESS);
    }
    CudaHost::TearDown();
  }

  std::vector<double> random(size_t count, cudaDataType type) {
    std::normal_distribution<double> normal;
    std::vector<double> values(count);
    for (double& value : values) value = stored(normal(generator_), type);
    return values;
  }

  cublasStatus_t gemm(cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const void* a, int lda, const void* b,
                      int ldb, void* c, int ldc, float beta = 0) {
    const float alpha = 1;
    return cublasGemmEx(handle_, ta, tb, m, n, k, &alpha, a, CUDA_R_32F, lda, b, CUDA_R_32F, ldb, &beta, c, CUDA_R_32F, ldc,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  }

  void check_against_float64(Types types, cublasOperation_t ta, cublasOperation_t tb, float beta);

  cublasHandle_t handle_ = nullptr;
  std::mt19937_64 generator_{7};
};

// Leading dimensions with gaps, a batch with gaps. The bound: k + 3 roundings of float32 on the sum of
// magnitudes, tf32's rounding of both inputs, half a unit of the stored result.
void CublasTest::check_against_float64(Types types, cublasOperation_t ta, cublasOperation_t tb, float beta) {
  constexpr int kM = 5, kN = 7, kK = 33, kBatch = 3;
  constexpr float kAlpha = 0.75F;
  const int lda = (ta == CUBLAS_OP_N ? kM : kK) + 2, ldb = (tb == CUBLAS_OP_N ? kK : kN) + 1, ldc = kM + 3;
  const int stride_a = lda * (ta == CUBLAS_OP_N ? kK : kM) + 4, stride_b = ldb * (tb == CUBLAS_OP_N ? kN : kK);
  const int stride_c = ldc * kN + 8;
  const auto a = random(size_t(stride_a) * kBatch, types.inputs), b = random(size_t(stride_b) * kBatch, types.inputs);
  const auto c = random(size_t(stride_c) * kBatch, types.output);
  auto *da = device(encode(a, types.inputs)), *db = device(encode(b, types.inputs)), *dc = device(encode(c, types.output));
  ASSERT_EQ(cublasGemmStridedBatchedEx(handle_, ta, tb, kM, kN, kK, &kAlpha, da, types.inputs, lda, stride_a, db,
                                       types.inputs, ldb, stride_b, &beta, dc, types.output, ldc, stride_c, kBatch,
                                       types.compute, CUBLAS_GEMM_DEFAULT),
            CUBLAS_STATUS_SUCCESS);
  const auto bytes = host(dc, c.size() * bytes_of(types.output));
  const double input_error = types.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 0x1p-10 * 1.001 : 0;
  for (int index = 0; index < kBatch * stride_c; ++index) {
    const int batch = index / stride_c, column = index % stride_c / ldc, row = index % stride_c % ldc;
    const double result = decode(&bytes[index * bytes_of(types.output)], types.output);
    if (column >= kN || row >= kM) {
      ASSERT_EQ(result, c[index]) << "outside of C";
      continue;
    }
    double sum = 0, magnitude = 0;
    for (int k = 0; k < kK; ++k) {
      const double x = a[batch * stride_a + (ta == CUBLAS_OP_N ? row + k * lda : k + row * lda)];
      const double y = b[batch * stride_b + (tb == CUBLAS_OP_N ? k + column * ldb : column + k * ldb)];
      sum += x * y;
      magnitude += std::abs(x * y);
    }
    const double expected = kAlpha * sum + beta * c[index];
    const double unit = types.output == CUDA_R_32F ? 0x1p-24 : types.output == CUDA_R_16F ? 0x1p-11 : 0x1p-8;
    const double bound = (kAlpha * magnitude + std::abs(beta * c[index])) * ((kK + 3) * 0x1p-24 + input_error) +
                         std::abs(expected) * unit * 1.01;
    ASSERT_NEAR(result, expected, bound) << row << "," << column << " of " << batch;
  }
  for (auto* p : {da, db, dc}) cudaFree(p);
}

TEST_F(CublasTest, ProductsAgreeWithFloat64InAllTypesAndTransposes) {
  const Types all[] = {
      {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F},           {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_PEDANTIC},
      {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32}, {CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F},
      {CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F},           {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F},
      {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F_PEDANTIC}};
  for (const Types& types : all) {
    for (auto ta : {CUBLAS_OP_N, CUBLAS_OP_T}) {
      for (auto tb : {CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C}) {
        for (float beta : {0.0F, 1.0F, -0.5F}) {
          SCOPED_TRACE(testing::Message() << types.inputs << types.output << types.compute << ta << tb << beta);
          check_against_float64(types, ta, tb, beta);
        }
      }
    }
  }
}

TEST_F(CublasTest, RoundsToStorageTypesAsIeeeDoes) {
  const std::vector<double> values = {1.0,     1.0 + 0x1p-8, 1.0 + 0x1p-11, 1.0 + 3 * 0x1p-11,
                                      65504.0, -0x1p-14,     0x1p-24,       0x1.8p-24,
                                      0x1p-26, 1e-7,         3e-5,          -2.0 - 0x1p-7};
  const int count = static_cast<int>(values.size());
  for (cudaDataType type : {CUDA_R_16F, CUDA_R_16BF}) {
    const std::vector<double> one = {1.0};
    auto* dx = device(encode(one, type));
    auto* dc = device<unsigned char>(values.size() * 2);
    for (int i = 0; i < count; ++i) {  // alpha carries the value: alpha * 1 * 1
      const auto alpha = static_cast<float>(values[i]);
      const float beta = 0;
      ASSERT_EQ(cublasGemmEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &alpha, dx, type, 1, dx, type, 1, &beta, dc + 2 * i,
                             type, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                CUBLAS_STATUS_SUCCESS);
    }
    const auto bytes = host(dc, values.size() * 2);
    for (int i = 0; i < count; ++i) {
      const double value = static_cast<double>(static_cast<float>(values[i]));
      EXPECT_EQ(decode(&bytes[2 * i], type), stored(value, type)) << values[i];
    }
    cudaFree(dx);
    cudaFree(dc);
  }
}

TEST_F(CublasTest, Tf32RoundsInputsOnlyWhenAsked) {
  const float fine = 1.0F + 0x1p-12F;
  float *x = device(std::vector<float>{fine}), *one = device(std::vector<float>{1.0F}), *c = device<float>(1);
  ASSERT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, x, 1, one, 1, c, 1), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(host(c, 1)[0], fine);
  ASSERT_EQ(cublasSetMathMode(handle_, CUBLAS_TF32_TENSOR_OP_MATH), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, x, 1, one, 1, c, 1), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(host(c, 1)[0], 1.0F);
  for (float* p : {x, one, c}) cudaFree(p);
}

// 257 + 258 = 515 is nearest to 516; 257 alone is nearest to 256, and 256 + 258 to 512.
TEST_F(CublasTest, SumsMayBeRoundedInPartsUnlessTheModeForbidsIt) {
  const std::vector<double> ones(514, 1.0);
  std::vector<double> values(514, 1.0);
  values[513] = 2.0;
  void *x = device(encode(values, CUDA_R_16BF)), *one = device(encode(ones, CUDA_R_16BF)), *c = device<unsigned char>(2);
  const auto sum = [&](int mode) {
    EXPECT_EQ(cublasSetMathMode(handle_, static_cast<cublasMath_t>(mode)), CUBLAS_STATUS_SUCCESS);
    const float alpha = 1, beta = 0;
    EXPECT_EQ(cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, 1, 1, 514, &alpha, x, CUDA_R_16BF, 514, one, CUDA_R_16BF, 514,
                           &beta, c, CUDA_R_16BF, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
              CUBLAS_STATUS_SUCCESS);
    return decode(host(static_cast<unsigned char*>(c), 2).data(), CUDA_R_16BF);
  };
  EXPECT_EQ(sum(CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION), 516);
  EXPECT_EQ(sum(CUBLAS_DEFAULT_MATH), 512);
  for (void* p : {x, one, c}) cudaFree(p);
}

TEST_F(CublasTest, ZeroBetaDoesNotReadC) {
  float *x = device(std::vector<float>(4, 1.0F)), *c = device<float>(4);  // fresh memory is NaN
  ASSERT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, x, 2, x, 2, c, 2), CUBLAS_STATUS_SUCCESS);
  EXPECT_THAT(host(c, 4), testing::Each(2.0F));
  ASSERT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 0, nullptr, 2, nullptr, 1, c, 2, 3.0F), CUBLAS_STATUS_SUCCESS);
  EXPECT_THAT(host(c, 4), testing::Each(6.0F));
  cudaFree(x);
  cudaFree(c);
}

TEST_F(CublasTest, WrongLeadingDimensionsAreRefused) {
  float *x = device(std::vector<float>(64, 1.0F)), *c = device<float>(64);
  const auto run = [&](cublasOperation_t ta, cublasOperation_t tb, int lda, int ldb, int ldc) {
    return gemm(ta, tb, 4, 3, 5, x, lda, x, ldb, c, ldc);
  };
  EXPECT_EQ(run(CUBLAS_OP_N, CUBLAS_OP_N, 4, 5, 4), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(CUBLAS_OP_N, CUBLAS_OP_N, 3, 5, 4), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(CUBLAS_OP_N, CUBLAS_OP_N, 4, 5, 3), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(CUBLAS_OP_T, CUBLAS_OP_N, 4, 5, 4), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(CUBLAS_OP_T, CUBLAS_OP_T, 5, 3, 4), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(CUBLAS_OP_T, CUBLAS_OP_T, 5, 2, 4), CUBLAS_STATUS_INVALID_VALUE);
  // Large enough for the shape, too large for the allocation.
  EXPECT_EQ(run(CUBLAS_OP_N, CUBLAS_OP_N, 16, 5, 4), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"cublasGemmEx: A: 272 bytes", "past its end"});
  cudaFree(x);
  cudaFree(c);
}

TEST_F(CublasTest, BadArgumentsAreRefused) {
  float *x = device(std::vector<float>(64, 1.0F)), *c = device<float>(64);
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, -1, 1, 1, x, 1, x, 1, c, 1), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(gemm(static_cast<cublasOperation_t>(3), CUBLAS_OP_N, 1, 1, 1, x, 1, x, 1, c, 1), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, x, 1, x, 1, nullptr, 1), CUBLAS_STATUS_INVALID_VALUE);
  const float one = 1;
  const auto mixed = [&](cudaDataType a, cudaDataType b, cudaDataType to, cublasComputeType_t compute) {
    return cublasGemmEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, x, a, 1, x, b, 1, &one, c, to, 1, compute,
                        CUBLAS_GEMM_DEFAULT);
  };
  EXPECT_EQ(mixed(CUDA_R_16F, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(mixed(CUDA_R_32F, CUDA_R_32F, CUDA_R_16F, CUBLAS_COMPUTE_32F), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(mixed(CUDA_R_16F, CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F_FAST_TF32), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(cublasSetStream(nullptr, nullptr), CUBLAS_STATUS_NOT_INITIALIZED);
  EXPECT_EQ(cublasGemmEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, nullptr, x, CUDA_R_32F, 1, x, CUDA_R_32F, 1, &one, c,
                         CUDA_R_32F, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasGemmEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, x, x, CUDA_R_32F, 1, x, CUDA_R_32F, 1, &one, c,
                         CUDA_R_32F, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"alpha must be host memory"});
  cudaFree(x);
  cudaFree(c);
}

TEST_F(CublasTest, WrongMemoryIsReported) {
  float *x = device(std::vector<float>(64, 1.0F)), *c = device<float>(64);
  std::vector<float> local(64);
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, local.data(), 2, x, 2, c, 2), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"cublasGemmEx: A", "pageable host memory"});
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, x, 2, x, 2, x + 2, 2), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"C overlaps A"});
  // Columns 0-1 and 2-3 of a matrix of 4 rows in turn: interleaved rows of one leading dimension do not
  // overlap.
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, x, 4, x, 4, x + 2, 4), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, x, 4, x, 4, x + 1, 4), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"C overlaps A"});
  const float one = 1, zero = 0;
  const auto batched = [&](long long stride) {
    return cublasGemmStridedBatchedEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, x, CUDA_R_32F, 2, 0, x, CUDA_R_32F,
                                      2, 4, &zero, c, CUDA_R_32F, 8, stride, 4, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  };
  EXPECT_EQ(batched(2), CUBLAS_STATUS_SUCCESS);  // heads beside one another
  EXPECT_EQ(batched(1), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"the matrices of the batch overlap"});
  EXPECT_EQ(batched(0), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"the matrices of the batch overlap"});
  cudaFree(c);
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, x, 2, x, 2, c, 2), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"cublasGemmEx: C: use after free"});
  cudaFree(x);
}

TEST_F(CublasTest, ABatchOfPointersIsItsProductsOneByOne) {
  constexpr int kN = 4, kBatch = 3;  // matrices of 64 bytes
  std::vector<float> numbers;
  for (int i = 0; i < 2 * kBatch * kN * kN; ++i) numbers.push_back(static_cast<float>(i % 7 - 3));
  float *x = device(numbers), *c = device(std::vector<float>(kBatch * kN * kN, 9.0F)), *alone = device<float>(kN * kN);
  const auto matrix = [](float* first, int i) { return static_cast<void*>(first + i * kN * kN); };
  const std::vector<void*> as = {matrix(x, 2), matrix(x, 0), matrix(x, 0)}, bs = {matrix(x, 5), matrix(x, 3), matrix(x, 1)},
                           cs = {matrix(c, 1), matrix(c, 2), matrix(c, 0)};
  void **da = device(as), **db = device(bs), **dc = device(cs);
  const float alpha = 2, beta = 0;
  const auto multiply = [&](const void* const* a, const void* const* b, void* const* to) {
    return cublasGemmBatchedEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, kN, kN, kN, &alpha, a, CUDA_R_32F, kN, b, CUDA_R_32F, kN,
                               &beta, to, CUDA_R_32F, kN, kBatch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  };
  ASSERT_EQ(multiply(da, db, dc), CUBLAS_STATUS_SUCCESS);
  for (int i = 0; i < kBatch; ++i) {
    ASSERT_EQ(cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, kN, kN, kN, &alpha, as[i], CUDA_R_32F, kN, bs[i], CUDA_R_32F,
                           kN, &beta, alone, CUDA_R_32F, kN, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(host(static_cast<float*>(cs[i]), kN * kN), host(alone, kN * kN)) << i;
  }
  EXPECT_EQ(multiply(as.data(), db, dc), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"cublasGemmBatchedEx: an array of pointers is not in the device's memory"});
  void** moved = device(std::vector<void*>{x + 1, as[1], as[2]});
  EXPECT_EQ(multiply(moved, db, dc), CUBLAS_STATUS_SUCCESS);  // found when it is carried out
  cudaDeviceSynchronize();
  expect_report({"cublasGemmBatchedEx", "is not at a multiple of 16 bytes"});
  for (void* memory : {static_cast<void*>(x), static_cast<void*>(c), static_cast<void*>(alone), static_cast<void*>(da),
                       static_cast<void*>(db), static_cast<void*>(dc), static_cast<void*>(moved)})
    cudaFree(memory);
}

TEST_F(CublasTest, WorkspaceIsCheckedUsedAndReset) {
  char* workspace = device<char>(8192);
  float *x = device(std::vector<float>(4, 1.0F)), *c = device<float>(4);
  EXPECT_EQ(cublasSetWorkspace(handle_, workspace + 16, 4096), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasSetWorkspace(handle_, nullptr, 4096), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasSetWorkspace(handle_, workspace, 9000), CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"cublasSetWorkspace: workspace: 9000 bytes", "past its end"});
  cudaMemset(workspace, 0, 8192);
  ASSERT_EQ(cublasSetWorkspace(handle_, workspace, 8192), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, x, 2, x, 2, c, 2), CUBLAS_STATUS_SUCCESS);
  EXPECT_NE(host(workspace, 1)[0], 0);
  cudaFree(workspace);
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, x, 2, x, 2, c, 2), CUBLAS_STATUS_EXECUTION_FAILED);
  expect_report({"workspace: use after free"});
  EXPECT_EQ(cublasSetStream(handle_, nullptr), CUBLAS_STATUS_SUCCESS);  // back to the library's own workspace
  EXPECT_EQ(gemm(CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, x, 2, x, 2, c, 2), CUBLAS_STATUS_SUCCESS);
  cudaFree(x);
  cudaFree(c);
}

TEST_F(CublasTest, HandlesBelongToTheirDeviceAndMustBeDestroyed) {
  ASSERT_EQ(cublasDestroy(handle_), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasDestroy(handle_), CUBLAS_STATUS_NOT_INITIALIZED);
  cuda_host::Settings settings;
  settings.devices = 2;
  start(settings);
  ASSERT_EQ(cublasCreate(&handle_), CUBLAS_STATUS_SUCCESS);
  cudaSetDevice(1);
  EXPECT_EQ(cublasSetStream(handle_, nullptr), CUBLAS_STATUS_INVALID_VALUE);
  expect_report({"cublasSetStream: the handle is of device 0, device 1 is current"});
  handle_ = nullptr;
  cuda_host::configure(cuda_host::Settings{});
  expect_report({"leak: 1 cuBLAS handle(s) never destroyed"});
}

}  // namespace
