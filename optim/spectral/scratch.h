// Scratch matrices of one spectral power, from the device's allocator. Rows are padded so that their distance
// is not a power of two: with 4096 bytes between rows, products of n = 512 run at half speed.
#pragma once

#include <cstdint>
#include <vector>

#include "core/device/blas.h"

namespace muonp::optim::spectral {

class Scratch {
 public:
  Scratch(core::Device& device, core::Dtype dtype) : device_(device), dtype_(dtype) {}

  // Uninitialised, alive as long as this object.
  core::MatrixView matrix(std::int64_t rows, std::int64_t cols) {
    tensors_.push_back(core::Tensor::empty(device_, {rows, stride(cols)}, dtype_, core::Category::exchange));
    return {tensors_.back().raw(), rows, cols, stride(cols), dtype_};
  }
  // Of `count` matrices, one behind the other.
  core::StridedBatch matrices(std::int64_t count, std::int64_t rows, std::int64_t cols) {
    core::MatrixView first = matrix(count * rows, cols);
    first.rows = rows;
    return {first, rows * first.stride};
  }
  static std::int64_t bytes(std::int64_t rows, std::int64_t cols, core::Dtype dtype) {
    return rows * stride(cols) * core::size_of(dtype);
  }

 private:
  static std::int64_t stride(std::int64_t cols) { return (cols + 15) / 16 * 16 + 16; }

  core::Device& device_;
  core::Dtype dtype_;
  std::vector<core::Tensor> tensors_;
};

}  // namespace muonp::optim::spectral
