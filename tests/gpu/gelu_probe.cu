// What does GELU cost as an epilogue of cuBLASLt, and beside the product as a kernel of its own? A program of its own, that
// needs a GPU and cuBLAS alone. For the MLP of GPT-2 124M over some rows, in bfloat16 with float32 sums, milliseconds of
//   up      x·Wᵀ + b and then gelu by a kernel, both results kept       and both from one call (GELU_AUX_BIAS)
//   down    dy·W and then the slope at what was kept by a kernel        and both in one call (DGELU)
// with the largest difference between the two ways: rounding of 2⁻⁸ of the largest value, or something is wrong.
//
//   nvcc -std=c++20 -O2 -arch=sm_90 tests/gpu/gelu_probe.cu -o gelu_probe -lcublasLt -lcublas
//   ./gelu_probe [REPEATS]
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

namespace {

using bf16 = __nv_bfloat16;

void check(cudaError_t e, const char* what) {
  if (e != cudaSuccess) std::printf("%s: %s\n", what, cudaGetErrorString(e)), std::exit(1);
}
void check(cublasStatus_t s, const char* what) {
  if (s != CUBLAS_STATUS_SUCCESS) std::printf("%s: %s\n", what, cublasGetStatusString(s)), std::exit(1);
}

cublasLtHandle_t lt;
void* workspace;
constexpr std::size_t kWorkspace = 32 << 20;
constexpr int kWidth = 768, kHidden = 3072;
int repeats = 15;

double milliseconds(const std::function<void()>& f) {
  for (int i = 0; i < 3; ++i) f();
  std::vector<float> times;
  for (int i = 0; i < repeats; ++i) {
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin), "event"), check(cudaEventCreate(&end), "event");
    check(cudaEventRecord(begin), "record");
    f();
    check(cudaEventRecord(end), "record");
    check(cudaEventSynchronize(end), "wait");
    check(cudaEventElapsedTime(&times.emplace_back(), begin, end), "time");
    cudaEventDestroy(begin), cudaEventDestroy(end);
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

__device__ float sigmoid2u(float x) { return 1 / (1 + __expf(-x * (1.59576912f + 0.0713548163f * x * x))); }

// Eight elements a thread, 16 bytes at a time.
struct alignas(16) Eight {
  bf16 at[8];
};
__global__ void gelu(const Eight* x, Eight* y, std::int64_t n) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    Eight v = x[i];
    for (bf16& e : v.at) e = bf16(float(e) * sigmoid2u(float(e)));
    y[i] = v;
  }
}
__global__ void slope(const Eight* x, Eight* gradient, std::int64_t n) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    const Eight v = x[i];
    Eight g = gradient[i];
    for (int k = 0; k < 8; ++k) {
      const float e = float(v.at[k]), s = sigmoid2u(e);
      g.at[k] = bf16(float(g.at[k]) * (s + e * s * (1 - s) * (1.59576912f + 3 * 0.0713548163f * e * e)));
    }
    gradient[i] = g;
  }
}
__global__ void fill(bf16* x, std::int64_t n, float scale, std::uint64_t seed) {
  for (std::int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
    std::uint64_t z = (i + seed) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    x[i] = bf16(scale * (float(z >> 40) * 0x1p-23f - 1));
  }
}

bf16* made(std::int64_t n, float scale, std::uint64_t seed) {
  bf16* x = nullptr;
  check(cudaMalloc(&x, n * sizeof(bf16)), "memory");
  fill<<<1024, 256>>>(x, n, scale, seed);
  return x;
}

// out [m, n] = in [m, k] times W, transposed ([n, k]) or not ([k, n]), as the library sees it: its transposes.
class Product {
 public:
  Product(cublasLtEpilogue_t epilogue, bool transposed, std::int64_t m, std::int64_t n, std::int64_t k, const bf16* bias,
          bf16* kept) {
    check(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
    const cublasOperation_t op = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(CUBLASLT_MATMUL_DESC_TRANSA, op);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    if (bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (kept) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, kept), set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, n);
    const auto layout = [](cublasLtMatrixLayout_t& l, std::int64_t rows, std::int64_t cols) {
      check(cublasLtMatrixLayoutCreate(&l, CUDA_R_16BF, rows, cols, rows), "layout");
    };
    transposed ? layout(w_, k, n) : layout(w_, n, k);
    layout(in_, k, m), layout(out_, n, m);
    cublasLtMatmulPreference_t preference;
    check(cublasLtMatmulPreferenceCreate(&preference), "preference");
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
                                               sizeof kWorkspace),
          "workspace");
    const std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                               sizeof schemes),
          "schemes");
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(lt, operation_, w_, in_, out_, out_, preference, 1, &result, &found);
    known_ = status == CUBLAS_STATUS_SUCCESS && found > 0;
    algorithm_ = result.algo;
    cublasLtMatmulPreferenceDestroy(preference);
  }
  bool known() const { return known_; }
  void operator()(const bf16* in, const bf16* w, bf16* out) const {
    const float one = 1, zero = 0;
    check(cublasLtMatmul(lt, operation_, &one, w, w_, in, in_, &zero, out, out_, out, out_, &algorithm_, workspace,
                         kWorkspace, nullptr),
          "product");
  }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof value), "attribute");
  }
  cublasLtMatmulDesc_t operation_;
  cublasLtMatrixLayout_t w_, in_, out_;
  cublasLtMatmulAlgo_t algorithm_;
  bool known_;
};

double difference(const bf16* a, const bf16* b, std::int64_t n) {
  std::vector<bf16> x(n), y(n);
  check(cudaMemcpy(x.data(), a, n * sizeof(bf16), cudaMemcpyDefault), "copy");
  check(cudaMemcpy(y.data(), b, n * sizeof(bf16), cudaMemcpyDefault), "copy");
  double most = 0, largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    most = std::max(most, std::abs(double(float(x[i])) - double(float(y[i]))));
    largest = std::max(largest, std::abs(double(float(x[i]))));
  }
  return most / largest;
}

void compare(const char* what, std::int64_t rows, bool both_known, double apart, double together, double error) {
  if (!both_known)
    return static_cast<void>(std::printf("%-5s %6ld rows: the library does not know the epilogue\n", what, rows));
  std::printf("%-5s %6ld rows: apart %.4f ms, in one call %.4f ms (%.3f), difference %.2e of the largest\n", what, rows,
              apart, together, together / apart, error);
}

void probe(std::int64_t rows) {
  const std::int64_t hidden = rows * kHidden;
  bf16 *x = made(rows * kWidth, 1, 1), *w = made(std::int64_t{kWidth} * kHidden, 0.1f, 2), *bias = made(kHidden, 1, 3);
  bf16 *kept = made(hidden, 0, 4), *kept2 = made(hidden, 0, 5), *y = made(hidden, 0, 6), *y2 = made(hidden, 0, 7);
  const auto eights = [](bf16* p) { return reinterpret_cast<Eight*>(p); };

  const Product up(CUBLASLT_EPILOGUE_BIAS, true, rows, kHidden, kWidth, bias, nullptr);
  const Product up_gelu(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, true, rows, kHidden, kWidth, bias, kept2);
  const auto up_apart = [&] { up(x, w, kept), gelu<<<1056, 256>>>(eights(kept), eights(y), hidden / 8); };
  const auto up_together = [&] { up_gelu(x, w, y2); };
  if (up.known() && up_gelu.known()) {
    const double apart = milliseconds(up_apart), together = milliseconds(up_together);
    compare("up", rows, true, apart, together, std::max(difference(kept, kept2, hidden), difference(y, y2, hidden)));
  } else {
    compare("up", rows, false, 0, 0, 0);
  }

  // dy is x, and W [width, hidden] is w.
  const Product down(CUBLASLT_EPILOGUE_DEFAULT, false, rows, kHidden, kWidth, nullptr, nullptr);
  const Product down_gelu(CUBLASLT_EPILOGUE_DGELU, false, rows, kHidden, kWidth, nullptr, kept);
  const auto down_apart = [&] { down(x, w, y), slope<<<1056, 256>>>(eights(kept), eights(y), hidden / 8); };
  const auto down_together = [&] { down_gelu(x, w, y2); };
  up_apart();
  if (down.known() && down_gelu.known()) {
    const double apart = milliseconds(down_apart), together = milliseconds(down_together);
    compare("down", rows, true, apart, together, difference(y, y2, hidden));
  } else {
    compare("down", rows, false, 0, 0, 0);
  }
  for (bf16* p : {x, w, bias, kept, kept2, y, y2}) cudaFree(p);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) repeats = std::atoi(argv[1]);
  check(cublasLtCreate(&lt), "cuBLASLt");
  check(cudaMalloc(&workspace, kWorkspace), "workspace");
  for (const std::int64_t rows : {4096, 16384, 32768}) probe(rows);
}
