#include "tensor_cores.h"

#include <bit>

#include "sanitizer.h"

namespace cuda_host {

namespace {

template <class T>
T& of_lane(const std::array<uint64_t, 32>& lanes, size_t lane) {
  return *reinterpret_cast<T*>(lanes[lane]);
}

uint32_t pair(uint16_t first, uint16_t second) { return uint32_t{second} << 16 | first; }
float element(uint32_t pair, int which) { return std::bit_cast<float>(which == 0 ? pair << 16 : pair & 0xffff0000U); }

}  // namespace

// Row r of matrix m is brought by lane 8 m + r.
void finish_load(const std::array<uint64_t, 32>& lanes) {
  IgnoredBySanitizer ignored;
  for (size_t lane = 0; lane < 32; ++lane) {
    auto& to = of_lane<MatrixRow>(lanes, lane);
    const size_t row = lane / 4, column = lane % 4 * 2;
    for (size_t m = 0; m < 4; ++m) {
      const auto at = [&](size_t r, size_t c) { return of_lane<MatrixRow>(lanes, 8 * m + r).row[c]; };
      to.elements[m] =
          to.transposed ? pair(at(column, row), at(column + 1, row)) : pair(at(row, column), at(row, column + 1));
    }
  }
}

// Lane 4 r + q has of A rows r and r + 8, columns 2 q, 2 q + 1 and 8 more; of B, 16 x 8, column r, rows 2 q, 2 q + 1 and 8
// more; of C rows r and r + 8, columns 2 q and 2 q + 1. Products are exact and added in the order of k in float32.
void finish_multiply(const std::array<uint64_t, 32>& lanes) {
  IgnoredBySanitizer ignored;
  float a[16][16], b[8][16];
  for (size_t lane = 0; lane < 32; ++lane) {
    const auto& parts = of_lane<MatrixParts>(lanes, lane);
    const size_t r = lane / 4, k = lane % 4 * 2;
    for (int i = 0; i < 2; ++i)
      for (size_t half = 0; half < 2; ++half) {
        const size_t at = k + 8 * half + static_cast<size_t>(i);
        a[r][at] = element(parts.a[2 * half], i);
        a[r + 8][at] = element(parts.a[2 * half + 1], i);
        b[r][at] = element(parts.b[half], i);
      }
  }
  for (size_t lane = 0; lane < 32; ++lane) {
    auto& parts = of_lane<MatrixParts>(lanes, lane);
    for (size_t e = 0; e < 4; ++e) {
      const size_t row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
      float sum = parts.c[e];
      for (size_t k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
      parts.c[e] = sum;
    }
  }
}

}  // namespace cuda_host
