#include "optim/spectral/elementwise.h"

#include <vector>

#include "core/for_each.h"

namespace muonp::optim::spectral {
namespace {

using core::Dtype;
using core::MatrixView;
using core::Op;
using core::Row;

template <class T>
void copy_rows(core::Queue& queue, const MatrixView& from, double factor, const MatrixView& to) {
  const float* source = static_cast<const float*>(from.data);
  T* target = static_cast<T*>(to.data);
  const std::int64_t from_stride = from.stride, to_stride = to.stride;
  core::for_each_row(queue, from.rows, from.cols, [=](const Row& row) {
    const float* s = source + row.index * from_stride;
    T* t = target + row.index * to_stride;
    row.each([=](std::int64_t j) { t[j] = T(static_cast<float>(s[j] * factor)); });
  });
}

template <class T>
void affine_rows(core::Queue& queue, float identity, float factor, const MatrixView& out, float term_factor,
                 const MatrixView& term) {
  T* target = static_cast<T*>(out.data);
  const T* source = static_cast<const T*>(term.data);
  const std::int64_t stride = out.stride, term_stride = term.stride;
  core::for_each_row(queue, out.rows, out.cols, [=](const Row& row) {
    T* t = target + row.index * stride;
    const float diagonal = row.index < row.cols ? factor * static_cast<float>(t[row.index]) + identity : 0.0f;
    if (source) {
      const T* s = source + row.index * term_stride;
      const float shift = row.index < row.cols ? term_factor * static_cast<float>(s[row.index]) : 0.0f;
      row.each([=](std::int64_t j) {
        t[j] = T(factor * static_cast<float>(t[j]) + term_factor * static_cast<float>(s[j]));
      });
      if (row.index < row.cols) t[row.index] = T(diagonal + shift);
    } else {
      row.each([=](std::int64_t j) { t[j] = T(factor * static_cast<float>(t[j])); });
      if (row.index < row.cols) t[row.index] = T(diagonal);
    }
  });
}

}  // namespace

void copy_scaled(core::Queue& queue, const MatrixView& from, double factor, const MatrixView& to) {
  MUONP_ASSERT(from.dtype == Dtype::float32 && from.rows == to.rows && from.cols == to.cols,
               "[{}, {}] into [{}, {}]", from.rows, from.cols, to.rows, to.cols);
  to.dtype == Dtype::float32 ? copy_rows<float>(queue, from, factor, to)
                             : copy_rows<core::bfloat16>(queue, from, factor, to);
}

void affine(core::Queue& queue, float identity, float factor, const MatrixView& out, float term_factor,
            const MatrixView& term) {
  MUONP_ASSERT(!term.data || (term.dtype == out.dtype && term.rows == out.rows && term.cols == out.cols),
               "[{}, {}] added to [{}, {}]", term.rows, term.cols, out.rows, out.cols);
  out.dtype == Dtype::float32 ? affine_rows<float>(queue, identity, factor, out, term_factor, term)
                              : affine_rows<core::bfloat16>(queue, identity, factor, out, term_factor, term);
}

double squared_norm(core::Queue& queue, const MatrixView& x) {
  const float* data = static_cast<const float*>(x.data);
  const std::int64_t stride = x.stride;
  std::vector<double> of_row(static_cast<std::size_t>(x.rows));
  core::for_each_row(queue, x.rows, x.cols, [=, &of_row](const Row& row) {
    const float* p = data + row.index * stride;
    double sum = 0;
    for (std::int64_t j = 0; j < row.cols; ++j) sum += static_cast<double>(p[j]) * static_cast<double>(p[j]);
    of_row[static_cast<std::size_t>(row.index)] = sum;
  });
  double total = 0;
  for (double sum : of_row) total += sum;
  return total;
}

void multiply_small(core::Queue& queue, float alpha, const MatrixView& x, const MatrixView& small, float beta,
                    const MatrixView& out) {
  if (is_wide(x))
    core::gemm(queue, Op::none, Op::none, alpha, small, x, beta, out);
  else
    core::gemm(queue, Op::none, Op::none, alpha, x, small, beta, out);
}

void plain_gram(core::Queue& queue, const MatrixView& x, const MatrixView& out) {
  const bool wide = is_wide(x);
  core::gemm(queue, wide ? Op::none : Op::transpose, wide ? Op::transpose : Op::none, 1, x, x, 0, out);
}

}  // namespace muonp::optim::spectral
