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
  bool columns = false;            // the parts lie side by side; false: one above the other
  std::vector<std::string> parts;  // in order, all of one size
};

struct MatrixBatch {
  std::int64_t count = 0, rows = 0,
               cols = 0;  // of the matrices; what shape scales and costs are computed from
  // Matrices side by side in one row, `parts` of them: the batch is not contiguous in the parameter. 1:
  // contiguous.
  std::int64_t parts = 1;
  bool contiguous() const { return parts == 1; }
  std::int64_t elements() const { return count * rows * cols; }
};

// Error that names the parameter: fewer than 2 or more than 3 dimensions, or a dimension that the parts do
// not divide. split may be null.
MatrixBatch matrix_batch(std::string_view name, const core::Shape& shape, const Split* split);

// Between a parameter's own layout and [count, rows, cols]; equal for a contiguous batch. float32; no
// overlap.
void pack(core::Queue& queue, const MatrixBatch& batch, const float* parameter, float* packed);
void unpack(core::Queue& queue, const MatrixBatch& batch, const float* packed, float* parameter);

}  // namespace muonp::optim
