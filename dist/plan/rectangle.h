// Rows and columns of a matrix in a flattened parameter. Whoever has them has them densely, row by row. Elements then are in
// the same order as in the parameter, so that what they have in common with a piece of it is one run of the rectangle.
#pragma once

#include <algorithm>
#include <cstdint>

namespace muonp::dist {

struct Rectangle {
  std::int64_t offset = 0, pitch = 0;  // of its first element; between rows
  std::int64_t rows = 0, cols = 0;

  std::int64_t elements() const { return rows * cols; }
  bool contiguous() const { return pitch == cols; }
  // Where its element i lies in the parameter.
  std::int64_t position(std::int64_t i) const { return offset + i / cols * pitch + i % cols; }
  // How many of its elements lie before a position of the parameter.
  std::int64_t before(std::int64_t position) const {
    const std::int64_t at = std::max<std::int64_t>(0, position - offset);
    return std::min(elements(), at / pitch * cols + std::min(cols, at % pitch));
  }
  // The i-th of equal parts of the longer side: of rows, or of columns where there are more of them.
  Rectangle part(int parts, int i) const {
    const auto cut = [parts](std::int64_t length, int k) { return length * k / parts; };
    if (rows < cols) return {offset + cut(cols, i), pitch, rows, cut(cols, i + 1) - cut(cols, i)};
    return {offset + cut(rows, i) * pitch, pitch, cut(rows, i + 1) - cut(rows, i), cols};
  }
};

}  // namespace muonp::dist
