#include "core/device/blas.h"

namespace muonp::core {

namespace {

Product checked(const Queue& queue, Op op_a, Op op_b, float alpha, const MatrixView& a, const MatrixView& b, float beta,
                const MatrixView& c) {
  const bool ta = op_a == Op::transpose, tb = op_b == Op::transpose;
  const Product p{op_a, op_b, ta ? a.cols : a.rows, tb ? b.rows : b.cols, ta ? a.rows : a.cols, alpha, beta, a, b, c};
  MUONP_ASSERT((tb ? b.cols : b.rows) == p.k && c.rows == p.m && c.cols == p.n, "[{}, {}]{} times [{}, {}]{} into [{}, {}]",
               a.rows, a.cols, ta ? "ᵀ" : "", b.rows, b.cols, tb ? "ᵀ" : "", c.rows, c.cols);
  for (const MatrixView* view : {&a, &b, &c}) {
    MUONP_ASSERT(view->rows >= 0 && view->cols >= 0 && view->stride >= view->cols, "[{}, {}] with stride {}", view->rows,
                 view->cols, view->stride);
    MUONP_ASSERT(view->data != nullptr || view->rows == 0 || view->cols == 0, "no data of [{}, {}]", view->rows, view->cols);
  }
  MUONP_ASSERT(a.dtype == b.dtype && a.dtype != Dtype::int32, "{} times {}; both have to be of one floating-point type",
               name_of(a.dtype), name_of(b.dtype));
  MUONP_ASSERT(c.dtype == a.dtype || c.dtype == Dtype::float32, "{} result of {} operands", name_of(c.dtype),
               name_of(a.dtype));
  if (a.dtype != Dtype::float32)
    if (const std::string refusal = product_refusal(queue, a.dtype); !refusal.empty()) fail("{}", refusal);
  return p;
}

}  // namespace

void gemm(Queue& queue, Op op_a, Op op_b, float alpha, const MatrixView& a, const MatrixView& b, float beta,
          const MatrixView& c) {
  const Product p = checked(queue, op_a, op_b, alpha, a, b, beta, c);
  if (p.m > 0 && p.n > 0) queue.multiply(p, 1, {0, 0, 0});
}

void gemm_with_epilogue(Queue& queue, Op op_a, Op op_b, const MatrixView& a, const MatrixView& b, const Epilogue& epilogue,
                        const MatrixView& c) {
  Product p = checked(queue, op_a, op_b, 1, a, b, 0, c);
  MUONP_ASSERT(epilogue.is_any() && c.dtype == a.dtype && p.k > 0, "an epilogue of a {} product of {} over {}",
               name_of(c.dtype), name_of(a.dtype), p.k);
  if (epilogue.gelu != Epilogue::Gelu::none) {
    const MatrixView& before = epilogue.before;
    MUONP_ASSERT(
        before.rows == p.m && before.cols == p.n && before.stride == p.n && c.stride == p.n && before.dtype == c.dtype,
        "gelu of [{}, {}] with stride {} and type {}", before.rows, before.cols, before.stride, name_of(before.dtype));
    MUONP_ASSERT(epilogue.gelu == Epilogue::Gelu::value || epilogue.bias == nullptr, "a bias and gelu's slope");
  }
  p.epilogue = epilogue;
  if (p.m > 0 && p.n > 0) queue.multiply(p, 1, {0, 0, 0});
}

void gemm_on_one_thread(Queue& queue, Op op_a, Op op_b, float alpha, const MatrixView& a, const MatrixView& b, float beta,
                        const MatrixView& c) {
  Product p = checked(queue, op_a, op_b, alpha, a, b, beta, c);
  p.one_thread = true;
  if (p.m > 0 && p.n > 0) queue.multiply(p, 1, {0, 0, 0});
}

void gemm_batched(Queue& queue, std::int64_t count, Op op_a, Op op_b, float alpha, const StridedBatch& a,
                  const StridedBatch& b, float beta, const StridedBatch& c) {
  MUONP_ASSERT(count >= 0 && a.batch_stride >= 0 && b.batch_stride >= 0, "batch of {}, strides {}, {}", count,
               a.batch_stride, b.batch_stride);
  const Product p = checked(queue, op_a, op_b, alpha, a.first, b.first, beta, c.first);
  const std::int64_t apart = c.batch_stride, stride = p.c.stride;
  const bool behind = apart >= (p.m - 1) * stride + p.n, beside = apart >= p.n && count * apart <= stride;
  MUONP_ASSERT(count <= 1 || p.m == 0 || behind || beside, "batch stride {} of {} [{}, {}] results with stride {}", apart,
               count, p.m, p.n, stride);
  if (count > 0 && p.m > 0 && p.n > 0) queue.multiply(p, count, {a.batch_stride, b.batch_stride, c.batch_stride});
}

std::string product_refusal(const Queue& queue, Dtype dtype) {
  if (dtype == Dtype::bfloat16) return queue.emulates_bfloat16() ? "" : bfloat16_refusal(queue.kind());
  const bool gpu_only = dtype == Dtype::float16 || dtype == Dtype::tf32;
  if (!gpu_only || queue.kind() == DeviceKind::cuda) return "";
  return fmt::format("{} products are made by GPUs only", name_of(dtype));
}

}  // namespace muonp::core
