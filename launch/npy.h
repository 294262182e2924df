// NumPy's .npy files (format versions 1, 2 and 3), for float32 matrices.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace muonp::launch {

struct NpyArray {
  core::Shape shape;          // [rows, cols] or [batch, rows, cols], every dimension ≥ 1
  std::vector<float> values;  // row-major
};

// Error names the file and what is valid: no .npy file, truncated or too long, another element type or byte
// order, Fortran order, another number of dimensions, an empty array.
NpyArray read_npy(const std::string& path);

// Error names the first entry that is NaN or infinite.
void require_finite(const NpyArray& array, const std::string& path);

// Version 1, little-endian, C order; the file is replaced in one step, or left as it was.
void write_npy(const std::string& path, const NpyArray& array);

}  // namespace muonp::launch
