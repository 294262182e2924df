// NumPy's .npy files (format versions 1, 2 and 3), for matrices: float16, float32 and float64 of either byte order, in C
// or Fortran order, are read as float32 in C order, and that is written.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/shape.h"
#include "core/files/files.h"

namespace muonp::core {

struct NpyArray {
  Shape shape;                // [rows, cols] or [batch, rows, cols], every dimension ≥ 1
  std::vector<float> values;  // row-major
  std::string original = {};  // what was converted ("float64 in Fortran order"); empty if nothing was
};

// Error names the file and what is valid: no .npy file, truncated or too long, another element type, another number of
// dimensions, an empty array, numbers outside the range of float32.
NpyArray read_npy(const std::string& path);

// Error names the first entry that is NaN or infinite.
void require_finite(const NpyArray& array, const std::string& path);

// Version 1, little-endian, C order; the file is replaced in one step, or left as it was.
void write_npy(const std::string& path, const NpyArray& array);

// A file of one row of int32 that is written as it comes; it gets its name with commit(), as AtomicFile does.
class NpyIds {
 public:
  explicit NpyIds(const std::string& path);
  void write(std::span<const std::int32_t> ids);
  std::int64_t count() const { return count_; }
  void commit();

 private:
  AtomicFile file_;
  std::int64_t count_ = 0;
};

}  // namespace muonp::core
