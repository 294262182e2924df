// The elements of a .npy file as float32 in C order.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/shape.h"

namespace muonp::core {

// Bytes of an element of this type. Error: not one of float16, float32, float64.
std::int64_t npy_element_bytes(const std::string& type, const std::string& path);

// Takes the elements block by block in the order of the file. float16 becomes float32 exactly, float64 is rounded to it,
// big-endian and Fortran order are turned round; what these bring along besides numbers is nothing, so nothing is lost.
class NpyElements {
 public:
  // `type` as in the header ("<f8"), shape [rows, cols] or [batch, rows, cols].
  NpyElements(const std::string& type, bool fortran, Shape shape, const std::string& path);

  const std::string& original() const { return original_; }  // "float64 in Fortran order"; empty for float32 in C order

  // Puts the next elements into their places in `values`, of the whole array. Error: a number that is finite and too
  // large for float32, by its index.
  void convert(std::span<const char> block, std::vector<float>& values);
  // After the last one. Error: a matrix whose largest entry is so small that float32 would keep it with fewer digits.
  void finish() const;

 private:
  double decode(const char* from) const;
  std::int64_t next_place();
  const std::string& path_;
  Shape shape_;
  bool fortran_, swapped_;
  std::int64_t bytes_;
  std::string original_;
  Shape index_;                  // of the next element
  std::vector<double> largest_;  // magnitude in each matrix
};

}  // namespace muonp::core
