// Products by the CPU's BLAS on operands rounded as the device stores and reads them.
#include "gemm.h"

#include <cblas.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "sanitizer.h"

namespace cuda_host {
namespace {

float from_bfloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>(bits >> 16 | 0x40U);  // stays NaN
  return static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

float from_float16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000U} << 16, exponent = bits >> 10 & 0x1fU, mantissa = bits & 0x3ffU;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000U | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
  return sign != 0 ? -magnitude : magnitude;
}

uint16_t to_float16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return sign | 0x7e00U;
  if (magnitude >= 0x477ff000U) return sign | 0x7c00U;  // at least halfway from 65504 to 65536
  if (magnitude < 0x38800000U) {  // below the normal numbers: the addition rounds to a multiple of 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U));
  }
  const uint32_t rounded = magnitude + 0xfffU + (magnitude >> 13 & 1U);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

float to_tf32(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7f800000U) == 0x7f800000U) return value;
  return std::bit_cast<float>((bits + 0xfffU + (bits >> 13 & 1U)) & ~0x1fffU);
}

float load(const void* data, cudaDataType type, int64_t at) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[at];
  const uint16_t bits = static_cast<const uint16_t*>(data)[at];
  return type == CUDA_R_16F ? from_float16(bits) : from_bfloat16(bits);
}

void store(void* data, cudaDataType type, int64_t at, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[at] = value;
  } else {
    static_cast<uint16_t*>(data)[at] = type == CUDA_R_16F ? to_float16(value) : to_bfloat16(value);
  }
}

const void* matrix_of_batch(const GemmMatrix& x, int64_t index) {
  return static_cast<const char*>(x.data) + index * x.stride * element_bytes(x.type);
}

void announce(const GemmMatrix& x, const void* data, bool write) {
  for (int64_t column = 0; column < x.columns; ++column) {
    const char* start = static_cast<const char*>(data) + column * x.ld * element_bytes(x.type);
    const auto bytes = static_cast<size_t>(x.rows * element_bytes(x.type));
    if (write) {
      announce_write(const_cast<char*>(start), bytes);
    } else {
      announce_read(start, bytes);
    }
  }
}

// The matrix in float32, columns without gaps.
std::vector<float> unpack(const GemmMatrix& x, const void* data, bool tf32) {
  std::vector<float> values(static_cast<size_t>(x.rows * x.columns));
  for (int64_t column = 0; column < x.columns; ++column) {
    for (int64_t row = 0; row < x.rows; ++row) {
      const float value = load(data, x.type, row + column * x.ld);
      values[static_cast<size_t>(row + column * x.rows)] = tf32 ? to_tf32(value) : value;
    }
  }
  return values;
}

// result += the part of op(A)·op(B) with `count` inner indices from `begin` on.
void add_product(const Gemm& g, const std::vector<float>& a, const std::vector<float>& b, int64_t begin, int64_t count,
                 std::vector<float>& result) {
  const auto operation = [](bool transpose) { return transpose ? CblasTrans : CblasNoTrans; };
  const float* left = a.data() + (g.transpose_a ? begin : begin * g.a.rows);
  const float* right = b.data() + (g.transpose_b ? begin * g.b.rows : begin);
  cblas_sgemm(CblasColMajor, operation(g.transpose_a), operation(g.transpose_b), static_cast<int>(g.m),
              static_cast<int>(g.n), static_cast<int>(count), 1.0F, left, static_cast<int>(g.a.rows), right,
              static_cast<int>(g.b.rows), 1.0F, result.data(), static_cast<int>(g.m));
}

float rounded_to(cudaDataType type, float value) {
  return type == CUDA_R_16F ? from_float16(to_float16(value)) : from_bfloat16(to_bfloat16(value));
}

// The tanh form, and its derivative.
double gelu(double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) {
  const double root = std::sqrt(2 / M_PI), t = std::tanh(root * (x + 0.044715 * x * x * x));
  return (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
}

// What becomes of an element of the result before it is stored.
float with_epilogue(const Gemm& g, int64_t row, int64_t column, float value) {
  if (g.bias != nullptr) value += load(g.bias, g.c.type, row);
  if (g.gelu == Gelu::none) return value;
  const int64_t at = row + column * g.before.ld;
  if (g.gelu == Gelu::slope) return static_cast<float>(value * gelu_slope(load(g.before.data, g.c.type, at)));
  store(const_cast<void*>(g.before.data), g.c.type, at, value);
  return static_cast<float>(gelu(value));
}

void run_one(const Gemm& g, int64_t index) {
  const void *a = matrix_of_batch(g.a, index), *b = matrix_of_batch(g.b, index);
  auto* c = const_cast<void*>(matrix_of_batch(g.c, index));
  if (g.k > 0) {
    announce(g.a, a, false);
    announce(g.b, b, false);
  }
  if (g.bias != nullptr) announce_read(g.bias, static_cast<size_t>(g.m * element_bytes(g.c.type)));
  if (g.gelu != Gelu::none) announce(g.before, g.before.data, g.gelu == Gelu::value);
  announce(g.c, c, true);
  IgnoredBySanitizer ignored;  // the BLAS library's own locks order nothing on a device
  const GemmMatrix none{nullptr, CUDA_R_32F, 0, 0, 1, 0};
  const std::vector<float> left = unpack(g.k > 0 ? g.a : none, a, g.tf32);
  const std::vector<float> right = unpack(g.k > 0 ? g.b : none, b, g.tf32);
  std::vector<float> result(static_cast<size_t>(g.m * g.n), 0.0F);
  const bool split = g.narrow_sums && g.c.type != CUDA_R_32F && g.k > 1;
  for (int64_t begin = 0, step = split ? (g.k + 1) / 2 : g.k; begin < g.k; begin += step) {
    add_product(g, left, right, begin, std::min(step, g.k - begin), result);
    if (split) {
      for (float& value : result) value = rounded_to(g.c.type, value);
    }
  }
  for (int64_t column = 0; column < g.n; ++column) {
    for (int64_t row = 0; row < g.m; ++row) {
      const int64_t at = row + column * g.c.ld;
      float value = g.alpha == 0 ? 0.0F : g.alpha * result[static_cast<size_t>(row + column * g.m)];
      if (g.beta != 0) value += g.beta * load(c, g.c.type, at);
      store(c, g.c.type, at, with_epilogue(g, row, column, value));
    }
  }
}

}  // namespace

float load_element(const void* data, cudaDataType type, int64_t at) { return load(data, type, at); }
void store_element(void* data, cudaDataType type, int64_t at, float value) { store(data, type, at, value); }

void run_gemm(const Gemm& gemm) {
  for (int64_t index = 0; index < gemm.batch; ++index) run_one(gemm, index);
}

}  // namespace cuda_host
