#include "optim/rules/split.h"

#include <numeric>

#include "core/base/index.h"
#include "core/device/for_each.h"

namespace muonp::optim {

namespace {

// Sizes of the parts along `extent` rows or columns.
std::vector<std::int64_t> sizes_of(std::string_view name, const core::Shape& shape, const Split& split,
                                   std::int64_t extent) {
  const auto parts = std::ssize(split.parts);
  const char* along = split.columns ? "columns" : "rows";
  if (split.sizes.empty()) {
    if (extent % parts != 0)
      core::fail("parameter {} of shape {}: split {} makes {} parts along its {} {}, which {} does not divide", name,
                 core::to_string(shape), split.name, parts, extent, along, parts);
    return std::vector<std::int64_t>(core::at(parts), extent / parts);
  }
  const std::int64_t sum = std::accumulate(split.sizes.begin(), split.sizes.end(), std::int64_t{0});
  if (sum != extent)
    core::fail("parameter {} of shape {}: the parts of split {} have {} {}, {} in all, and it has {}", name,
               core::to_string(shape), split.name, fmt::join(split.sizes, " + "), along, sum, extent);
  return split.sizes;
}

}  // namespace

std::vector<MatrixBatch> matrix_batches(std::string_view name, const core::Shape& shape, const Split* split) {
  if (shape.size() != 2 && shape.size() != 3)
    core::fail(
        "parameter {} of shape {} is not a matrix: its rule moves [rows, columns] and stacks "
        "[count, rows, columns]; select it into a group with rule adamw or sgd",
        name, core::to_string(shape));
  const std::int64_t count = shape.size() == 3 ? shape[0] : 1, rows = shape[shape.size() - 2], cols = shape.back();
  const MatrixBatch whole{.count = count, .rows = rows, .cols = cols, .offset = 0, .apart = rows * cols, .pitch = cols};
  if (split == nullptr) return {whole};
  const std::vector<std::int64_t> sizes = sizes_of(name, shape, *split, split->columns ? cols : rows);
  if (!split->columns && split->sizes.empty()) {
    const std::int64_t of_one = sizes.front();
    return {{.count = count * std::ssize(sizes),
             .rows = of_one,
             .cols = cols,
             .offset = 0,
             .apart = of_one * cols,
             .pitch = cols}};
  }
  std::vector<MatrixBatch> batches;
  std::int64_t begin = 0;
  for (const std::int64_t size : sizes) {
    MatrixBatch part = whole;
    (split->columns ? part.cols : part.rows) = size;
    part.offset = split->columns ? begin : begin * cols;
    batches.push_back(part);
    begin += size;
  }
  return batches;
}

namespace {

// Row `index` of the packed matrices is a run of `cols` elements of the parameter.
struct CopyRow {
  std::int64_t rows, offset, apart, pitch;
  const float* from;
  float* to;
  bool packing;  // to the packed matrices, otherwise from them

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t packed = row.index * row.cols;
    const std::int64_t unpacked = offset + row.index / rows * apart + row.index % rows * pitch;
    const float* source = from + (packing ? unpacked : packed);
    float* target = to + (packing ? packed : unpacked);
    row.over([](float value, float& out) { out = value; }, source, core::Written<float>{target});
  }
};

void copy_rows(core::Queue& queue, const MatrixBatch& b, const float* from, float* to, bool packing) {
  core::for_each_row(queue, b.count * b.rows, b.cols, CopyRow{b.rows, b.offset, b.apart, b.pitch, from, to, packing});
}

}  // namespace

void pack(core::Queue& queue, const MatrixBatch& b, const float* parameter, float* packed) {
  copy_rows(queue, b, parameter, packed, true);
}

void unpack(core::Queue& queue, const MatrixBatch& b, const float* packed, float* parameter) {
  copy_rows(queue, b, packed, parameter, false);
}

}  // namespace muonp::optim
