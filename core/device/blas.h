// Matrix products. All matrices are row-major with a stride (elements between rows). float32, bfloat16 and (on a GPU)
// float16 and tf32 operands; accumulation is float32. On the CPU they are oneDNN's, where bfloat16 needs AVX-512 (see
// product_refusal); on a GPU cuBLAS's.
#pragma once

#include <cstdint>
#include <string>

#include "core/device/device.h"
#include "core/device/tensor.h"

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

// C = alpha·op(A)·op(B) + beta·C. With beta = 0, C is not read. op(A) is m×k, op(B) is k×n, C is m×n; k = 0 gives
// C = beta·C. A and B have one dtype; C has the same or is float32. C must not overlap A or B.
// core::Error where product_refusal(queue, A's dtype) says so.
void gemm(Queue& queue, Op op_a, Op op_b, float alpha, const MatrixView& a, const MatrixView& b, float beta,
          const MatrixView& c);

// What becomes of P = op(A)·op(B) before it is stored as C. Gelu is x·Φ(x) in the tanh form of GPT-2,
// x/2·(1 + tanh(√(2/π)(x + 0.044715 x³))) (Hendrycks and Gimpel 2016).
struct Epilogue {
  enum class Gelu : std::uint8_t {
    none,   // C = P + bias
    value,  // `before` = P + bias, C = gelu(before)
    slope   // C = P∘gelu'(before)
  };
  const void* bias = nullptr;  // n elements, added to every row; or null. None where there is a slope
  Gelu gelu = Gelu::none;
  MatrixView before = {};  // of C's shape; with gelu both are without gaps between rows

  bool is_any() const { return bias != nullptr || gelu != Gelu::none; }
};

// C by an epilogue, all of A's type. A GPU makes it while the result is on the chip, where its library can and that is known
// to pay (core/device/cuda/epilogue_product.h); how often values are rounded on the way depends on that.
void gemm_with_epilogue(Queue& queue, Op op_a, Op op_b, const MatrixView& a, const MatrixView& b, const Epilogue& epilogue,
                        const MatrixView& c);

// gemm() whose every bit is the same for any number of threads: a CPU takes one. For thin products of what ranks
// must agree on.
void gemm_on_one_thread(Queue& queue, Op op_a, Op op_b, float alpha, const MatrixView& a, const MatrixView& b, float beta,
                        const MatrixView& c);

// What gemm() hands to the device: dimensions agree, no result is empty.
struct Product {
  Op op_a, op_b;
  std::int64_t m, n, k;
  float alpha, beta;
  MatrixView a, b, c;
  bool one_thread = false;  // of a CPU
  Epilogue epilogue = {};
};

// A batch of matrices of one shape; `batch_stride` elements between the first elements of two neighbours.
struct StridedBatch {
  MatrixView first;
  std::int64_t batch_stride = 0;

  MatrixView operator[](std::int64_t i) const {
    MatrixView view = first;
    view.data = static_cast<char*>(first.data) + i * batch_stride * size_of(first.dtype);
    return view;
  }
};

// gemm() for i in [0, count). Operands may be shared (batch_stride 0); results lie behind or beside each other. The last
// bits of a result may differ from those of one gemm() call, because the number of threads per product may.
void gemm_batched(Queue& queue, std::int64_t count, Op op_a, Op op_b, float alpha, const StridedBatch& a,
                  const StridedBatch& b, float beta, const StridedBatch& c);

// Floating-point operations of one product: 2·m·n·k.
inline double gemm_flops(std::int64_t m, std::int64_t n, std::int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// Why bfloat16 products cannot run here, or an empty string when they can.
std::string bfloat16_refusal(DeviceKind kind);
// Why products of such operands cannot run on the queue (one that emulates bfloat16 runs them), or an empty string.
std::string product_refusal(const Queue& queue, Dtype dtype);

}  // namespace muonp::core
