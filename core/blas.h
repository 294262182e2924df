// Matrix products. All matrices are row-major with a stride (elements between rows). float32 and bfloat16 operands;
// accumulation is float32. On the CPU they are oneDNN's; bfloat16 needs AVX-512 there (see bfloat16_support).
#pragma once

#include <cstdint>
#include <string>

#include "core/device.h"
#include "core/tensor.h"

namespace muonp::core {

struct MatrixView {
  void* data = nullptr;
  std::int64_t rows = 0, cols = 0, stride = 0;
  Dtype dtype = Dtype::float32;

  MatrixView() = default;
  MatrixView(void* data_, std::int64_t rows_, std::int64_t cols_, std::int64_t stride_, Dtype dtype_ = Dtype::float32)
      : data(data_), rows(rows_), cols(cols_), stride(stride_), dtype(dtype_) {}
  // A tensor's last dimension is the columns, all others together are the rows.
  explicit MatrixView(const Tensor& t)
      : MatrixView(t.raw(), t.dim(-1) == 0 ? 0 : t.size() / t.dim(-1), t.dim(-1), t.dim(-1), t.dtype()) {}

  MatrixView block(std::int64_t row, std::int64_t col, std::int64_t block_rows, std::int64_t block_cols) const {
    return {static_cast<char*>(data) + (row * stride + col) * size_of(dtype), block_rows, block_cols, stride, dtype};
  }
};

enum class Op : std::uint8_t { none, transpose };

// C = alpha·op(A)·op(B) + beta·C. With beta = 0, C is not read. op(A) is m×k, op(B) is k×n, C is m×n.
// A and B have one dtype; C has the same or is float32. C must not overlap A or B.
void gemm(Queue& queue, Op op_a, Op op_b, float alpha, const MatrixView& a, const MatrixView& b, float beta,
          const MatrixView& c);

// Floating-point operations of one product: 2·m·n·k.
inline double gemm_flops(std::int64_t m, std::int64_t n, std::int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// Why bfloat16 products cannot run here, or an empty string when they can.
std::string bfloat16_refusal(DeviceKind kind);

}  // namespace muonp::core
