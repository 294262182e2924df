#include "optim/rules/split.h"

#include "core/device/for_each.h"

namespace muonp::optim {

MatrixBatch matrix_batch(std::string_view name, const core::Shape& shape, const Split* split) {
  if (shape.size() != 2 && shape.size() != 3)
    core::fail(
        "parameter {} of shape {} is not a matrix: rule muonp moves [rows, columns] and stacks "
        "[count, rows, columns]; select it into a group with rule adamw or sgd",
        name, core::to_string(shape));
  MatrixBatch batch{.count = shape.size() == 3 ? shape[0] : 1, .rows = shape[shape.size() - 2], .cols = shape.back()};
  if (split == nullptr) return batch;
  const auto parts = std::ssize(split->parts);
  std::int64_t& divided = split->columns ? batch.cols : batch.rows;
  if (divided % parts != 0)
    core::fail("parameter {} of shape {}: split {} makes {} parts along its {} {}, which {} does not divide", name,
               core::to_string(shape), split->name, parts, divided, split->columns ? "columns" : "rows", parts);
  divided /= parts;
  batch.count *= parts;
  if (split->columns) batch.parts = parts;
  return batch;
}

namespace {

// Row `index` of the packed matrices is a run of `cols` elements of the parameter; this is where it starts
// there.
struct RowStart {
  std::int64_t parts, rows, cols;
  MUONP_HD std::int64_t operator()(std::int64_t index) const {
    const std::int64_t matrix = index / rows, row = index % rows;
    const std::int64_t stack = matrix / parts, part = matrix % parts;
    return ((stack * rows + row) * parts + part) * cols;
  }
};

struct CopyRow {
  RowStart start;
  const float* from;
  float* to;
  bool packing;  // to the packed matrices, otherwise from them

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t packed = row.index * row.cols, unpacked = start(row.index);
    const float* source = from + (packing ? unpacked : packed);
    float* target = to + (packing ? packed : unpacked);
    row.each([=](std::int64_t c) { target[c] = source[c]; });
  }
};

void copy_rows(core::Queue& queue, const MatrixBatch& b, const float* from, float* to, bool packing) {
  core::for_each_row(queue, b.count * b.rows, b.cols, CopyRow{{b.parts, b.rows, b.cols}, from, to, packing});
}

}  // namespace

void pack(core::Queue& queue, const MatrixBatch& b, const float* parameter, float* packed) {
  copy_rows(queue, b, parameter, packed, true);
}

void unpack(core::Queue& queue, const MatrixBatch& b, const float* packed, float* parameter) {
  copy_rows(queue, b, packed, parameter, false);
}

}  // namespace muonp::optim
