// What does a product cost of which half is wanted, because it is symmetric? A program of its own, that needs a GPU and
// cuBLAS alone; it prints one line for each way and size: milliseconds, and operations of the whole product over that time.
//
//   nvcc -std=c++20 -O2 -arch=sm_90 tests/gpu/symmetric_probe.cu -o symmetric_probe -lcublasLt -lcublas
//   ./symmetric_probe [REPEATS]
//
// The ways, float16 operands and float32 sums throughout; "32" and "16" are the bits of the result:
//   whole      every entry
//   TN, NT, TT the same with operands taken as transposed, which they may be since they are symmetric
//   panels K   K panels of rows up to the diagonal, one product each
//   halves L   the square left of the diagonal, then those of both halves as one batch, and so on L times; at last the
//              squares on the diagonal, as one batch
//   blocks K   the blocks of a K by K grid up to the diagonal as one batch of pointers
//   lt         cuBLASLt's D = alpha·A·B + beta·C in 16 bits, D not C
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

void check(cudaError_t e, const char* what) {
  if (e != cudaSuccess) std::printf("%s: %s\n", what, cudaGetErrorString(e)), std::exit(1);
}
void check(cublasStatus_t s, const char* what) {
  if (s != CUBLAS_STATUS_SUCCESS) std::printf("%s: %s\n", what, cublasGetStatusString(s)), std::exit(1);
}

cublasHandle_t blas;
cublasLtHandle_t lt;
void* workspace;
constexpr std::size_t kWorkspace = 32 << 20;
int repeats = 15;

double milliseconds(const std::function<void()>& f) {
  for (int i = 0; i < 3; ++i) f();
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin), "event"), check(cudaEventCreate(&end), "event");
    check(cudaEventRecord(begin), "record");
    f();
    check(cudaEventRecord(end), "record");
    check(cudaEventSynchronize(end), "wait");
    float t = 0;
    check(cudaEventElapsedTime(&t, begin, end), "time");
    times.push_back(t);
    cudaEventDestroy(begin), cudaEventDestroy(end);
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

__global__ void fill(__half* x, std::int64_t n) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    std::uint64_t z = i * 0x9E3779B97F4A7C15ull + 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    x[i] = __half(float(z >> 40) * 0x1p-24f - 0.5f);
  }
}

// Column-major m×n += k, of `count` matrices so many elements apart.
struct Batch {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  bool wide = true;
};
void multiply(const Batch& how, int m, int n, int k, const __half* a, int lda, long long apart_a, const __half* b, int ldb,
              long long apart_b, void* c, int ldc, long long apart_c, int count) {
  const float one = 1, zero = 0;
  check(cublasGemmStridedBatchedEx(blas, how.a, how.b, m, n, k, &one, a, CUDA_R_16F, lda, apart_a, b, CUDA_R_16F, ldb,
                                   apart_b, &zero, c, how.wide ? CUDA_R_32F : CUDA_R_16F, ldc, apart_c, count,
                                   CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "product");
}
void* offset(void* c, bool wide, std::int64_t elements) { return static_cast<char*>(c) + elements * (wide ? 4 : 2); }

void report(std::int64_t n, int count, const std::string& way, double ms) {
  std::printf("%5lld x %-3d %-14s %9.4f ms %8.1f Tflop/s of the whole\n", static_cast<long long>(n), count, way.c_str(), ms,
              2e-9 * n * n * n * count / ms);
  std::fflush(stdout);
}

void of_size(int n, int count) {
  const std::int64_t size = std::int64_t{n} * n;
  __half *a, *b, *d;
  float* c;
  check(cudaMalloc(&a, size * count * 2), "memory"), check(cudaMalloc(&b, size * count * 2), "memory");
  check(cudaMalloc(&c, size * count * 4), "memory"), check(cudaMalloc(&d, size * count * 2), "memory");
  fill<<<1024, 256>>>(a, size * count), fill<<<1024, 256>>>(b, size * count), fill<<<1024, 256>>>(d, size * count);
  for (const bool wide : {true, false}) {
    const std::string bits = wide ? " 32" : " 16";
    const Batch plain{.wide = wide};
    const auto whole = [&](cublasOperation_t x, cublasOperation_t y) {
      return milliseconds([&] { multiply({x, y, wide}, n, n, n, a, n, size, b, n, size, c, n, size, count); });
    };
    report(n, count, "whole" + bits, whole(CUBLAS_OP_N, CUBLAS_OP_N));
    report(n, count, "TN" + bits, whole(CUBLAS_OP_T, CUBLAS_OP_N));
    report(n, count, "NT" + bits, whole(CUBLAS_OP_N, CUBLAS_OP_T));
    if (wide) report(n, count, "TT" + bits, whole(CUBLAS_OP_T, CUBLAS_OP_T));
    if (n >= 1024)
      report(n, count, "panels 8" + bits, milliseconds([&] {
               const int rows = n / 8;
               for (int r = 0; r < n; r += rows)
                 multiply(plain, r + rows, rows, n, a, n, size, b + std::int64_t{r} * n, n, size,
                          offset(c, wide, std::int64_t{r} * n), n, size, count);
             }));
    if (count == 1)
      for (int levels = 1; levels <= 3; ++levels)
        report(n, count, "halves " + std::to_string(levels) + bits, milliseconds([&] {
                 for (int level = 1; level <= levels; ++level) {
                   const int half = n >> level;  // blocks (half.., 0..half) of each of 2^(level-1) diagonal squares
                   const std::int64_t apart = 2 * half;
                   multiply(plain, half, half, n, a + half, n, apart, b, n, apart * n, offset(c, wide, half), n,
                            apart * (n + 1), 1 << (level - 1));
                 }
                 const int rest = n >> levels;
                 multiply(plain, rest, rest, n, a, n, rest, b, n, std::int64_t{rest} * n, c, n, std::int64_t{rest} * (n + 1),
                          1 << levels);
               }));
    for (const int grid : {2, 3, 4, 6, 8, 16}) {
      const int rows = n / grid;
      if (n % grid != 0 || rows < 128) continue;
      std::vector<const void*> as, bs;
      std::vector<void*> cs;
      for (int m = 0; m < count; ++m)
        for (int i = 0; i < grid; ++i)
          for (int j = 0; j <= i; ++j) {
            as.push_back(a + m * size + std::int64_t{i} * rows);
            bs.push_back(b + m * size + std::int64_t{j} * rows * n);
            cs.push_back(offset(c, wide, m * size + std::int64_t{j} * rows * n + std::int64_t{i} * rows));
          }
      void* pointers;
      const std::size_t bytes = as.size() * sizeof(void*);
      check(cudaMalloc(&pointers, 3 * bytes), "memory");
      char* at = static_cast<char*>(pointers);
      cudaMemcpy(at, as.data(), bytes, cudaMemcpyHostToDevice);
      cudaMemcpy(at + bytes, bs.data(), bytes, cudaMemcpyHostToDevice);
      cudaMemcpy(at + 2 * bytes, cs.data(), bytes, cudaMemcpyHostToDevice);
      const float one = 1, zero = 0;
      report(n, count, "blocks " + std::to_string(grid) + bits, milliseconds([&] {
               check(cublasGemmBatchedEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, rows, rows, n, &one,
                                         reinterpret_cast<const void* const*>(at), CUDA_R_16F, n,
                                         reinterpret_cast<const void* const*>(at + bytes), CUDA_R_16F, n, &zero,
                                         reinterpret_cast<void* const*>(at + 2 * bytes), wide ? CUDA_R_32F : CUDA_R_16F, n,
                                         static_cast<int>(as.size()), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     "blocks");
             }));
      cudaFree(pointers);
    }
  }
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t layout;
  cublasLtMatmulPreference_t preference;
  check(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "lt");
  check(cublasLtMatrixLayoutCreate(&layout, CUDA_R_16F, n, n, n), "lt");
  long long apart = size;
  check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count), "lt");
  check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &apart, sizeof apart), "lt");
  check(cublasLtMatmulPreferenceCreate(&preference), "lt");
  check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
                                             sizeof kWorkspace),
        "lt");
  cublasLtMatmulHeuristicResult_t found;
  int results = 0;
  check(cublasLtMatmulAlgoGetHeuristic(lt, operation, layout, layout, layout, layout, preference, 1, &found, &results), "lt");
  const float alpha = 1, beta = 0.5f;
  report(n, count, "lt 16", milliseconds([&] {
           check(cublasLtMatmul(lt, operation, &alpha, a, layout, b, layout, &beta, d, layout, c, layout, &found.algo,
                                workspace, kWorkspace, nullptr),
                 "lt");
         }));
  cudaFree(a), cudaFree(b), cudaFree(c), cudaFree(d);
}

// Of tall matrices, 4 : 1: Yᵀ·Y, and Y times a small one.
void of_tall(int n, int count) {
  const std::int64_t size = std::int64_t{4} * n * n, small = std::int64_t{n} * n;
  __half *y, *w, *z;
  float* c;
  check(cudaMalloc(&y, size * count * 2), "memory"), check(cudaMalloc(&w, small * count * 2), "memory");
  check(cudaMalloc(&z, size * count * 2), "memory"), check(cudaMalloc(&c, small * count * 4), "memory");
  fill<<<1024, 256>>>(y, size * count), fill<<<1024, 256>>>(w, small * count);
  const double gram = milliseconds([&] {
    multiply({CUBLAS_OP_N, CUBLAS_OP_T, true}, n, n, 4 * n, y, n, size, y, n, size, c, n, small, count);
  });
  report(n, count, "gram 4:1 /4", gram / 4);
  report(n, count, "long 4:1 /4", milliseconds([&] {
           multiply({.wide = false}, n, 4 * n, n, w, n, small, y, n, size, z, n, size, count);
         }) / 4);
  cudaFree(y), cudaFree(w), cudaFree(z), cudaFree(c);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) repeats = std::max(1, std::atoi(argv[1]));
  check(cublasCreate(&blas), "cuBLAS"), check(cublasLtCreate(&lt), "cuBLASLt");
  check(cudaMalloc(&workspace, kWorkspace), "memory");
  check(cublasSetWorkspace(blas, workspace, kWorkspace), "workspace");
  check(cublasSetMathMode(blas, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                          CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
        "mode");
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "device");
  std::printf("%s, %d multiprocessors\n", properties.name, properties.multiProcessorCount);
  for (const int n : {1024, 2048, 4096, 8192}) of_size(n, 1);
  for (const int count : {7, 14, 28, 48}) of_size(768, count);
  for (const int count : {4, 7, 12, 24}) of_tall(768, count);
}
