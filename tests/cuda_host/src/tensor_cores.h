// What the lanes of a warp bring to the tensor cores' collectives, and what these make of it (PTX ISA, "ldmatrix" and
// "mma.m16n8k16").
#pragma once

#include <array>
#include <cstdint>

namespace cuda_host {

struct MatrixRow {  // 8 elements of bfloat16; four matrices' two elements come back
  uint16_t row[8];
  bool transposed;
  uint32_t elements[4];
};
struct MatrixParts {
  uint32_t a[4], b[2];
  float c[4];
};

// The addresses of all 32 lanes' MatrixRow, or MatrixParts.
void finish_load(const std::array<uint64_t, 32>& lanes);
void finish_multiply(const std::array<uint64_t, 32>& lanes);

}  // namespace cuda_host
