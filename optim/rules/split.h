// How a parameter is a batch of matrices: [m, n] is one, [E, m, n] is E of them, and a named split makes each
// part of a fused matrix (q, k, v; gate, up) a matrix of its own. Nothing is ever guessed from a shape.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/tensor.h"

namespace muonp::optim {

struct Split {
  std::string name;
  bool columns = false;                  // the parts lie side by side; false: one above the other
  std::vector<std::string> parts = {};   // in order
  std::vector<std::int64_t> sizes = {};  // rows or columns of each; empty: all of one size
};

// Matrices of one shape in a parameter: matrix i has row r from element offset + i·apart + r·pitch on.
struct MatrixBatch {
  std::int64_t count = 0, rows = 0, cols = 0;  // what shape scales and costs are computed from
  std::int64_t offset = 0, apart = 0, pitch = 0;

  // One behind the other, without gaps.
  bool contiguous() const { return pitch == cols && (count == 1 || apart == rows * cols); }
  std::int64_t elements() const { return count * rows * cols; }
};

// All matrices of a parameter; where they are of one size and whole rows, or not split, one batch. split may be null. Error
// that names the parameter: fewer than 2 or more than 3 dimensions, or parts that do not make up its rows or columns.
std::vector<MatrixBatch> matrix_batches(std::string_view name, const core::Shape& shape, const Split* split);

// Between a parameter's own layout and [count, rows, cols]. float32; no overlap.
void pack(core::Queue& queue, const MatrixBatch& batch, const float* parameter, float* packed);
void unpack(core::Queue& queue, const MatrixBatch& batch, const float* packed, float* parameter);

}  // namespace muonp::optim
