#include "optim/spectral/elementwise.h"

#include <algorithm>

#include "core/base/storage.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"

namespace muonp::optim::spectral {
namespace {

using core::Dtype;
using core::MatrixView;
using core::Op;

template <class T>
struct CopyScaled {
  const float* from;
  std::int64_t from_stride;
  double factor;
  T* to;
  std::int64_t to_stride;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const float* s = from + row.index * from_stride;
    T* t = to + row.index * to_stride;
    const double by = factor;
    row.over([=](float value, T& out) { out = T(static_cast<float>(value * by)); }, s, core::Written<T>{t});
  }
};

template <class T>
struct Widen {
  const T* from;
  std::int64_t rows, from_stride, from_apart;
  float* to;
  std::int64_t to_stride, to_apart;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t matrix = row.index / rows, r = row.index % rows;
    const T* s = from + matrix * from_apart + r * from_stride;
    float* t = to + matrix * to_apart + r * to_stride;
    row.over([](T value, float& out) { out = static_cast<float>(value); }, s, core::Written<float>{t});
  }
};

template <class T>
struct Affine {
  float identity, factor, term_factor;
  T* out;
  std::int64_t rows, stride, apart;
  const T* term;  // none: null
  std::int64_t term_stride;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t matrix = row.index / rows, diagonal = row.index % rows;
    T* t = out + matrix * apart + diagonal * stride;
    const T* s = term ? term + matrix * apart + diagonal * term_stride : nullptr;
    const float by = factor, term_by = term_factor, one = identity;
    row.each([=](std::int64_t j) {
      const float value = by * static_cast<float>(t[j]) + (j == diagonal ? one : 0.0f);
      t[j] = T(s ? value + term_by * static_cast<float>(s[j]) : value);
    });
  }
};

struct RowSquares {
  const float* data;
  std::int64_t stride;
  double* sums;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const float* p = data + row.index * stride;
    sums[row.index] = row.sum([](float value) { return static_cast<double>(value) * static_cast<double>(value); }, p);
  }
};

template <class T>
struct AddToDiagonal {
  T* data;
  std::int64_t n, step, apart;  // apart: between matrices of n diagonal elements
  float value;
  MUONP_HD void operator()(std::int64_t i) const {
    T& x = data[i / n * apart + i % n * step];
    x = T(static_cast<float>(x) + value);
  }
};

}  // namespace

void copy_scaled(core::Queue& queue, const MatrixView& from, double factor, const MatrixView& to) {
  MUONP_ASSERT(from.dtype == Dtype::float32 && from.rows == to.rows && from.cols == to.cols, "[{}, {}] into [{}, {}]",
               from.rows, from.cols, to.rows, to.cols);
  core::with_storage(to.dtype, [&]<class T>(T) {
    core::for_each_row(
        queue, from.rows, from.cols,
        CopyScaled<T>{static_cast<const float*>(from.data), from.stride, factor, static_cast<T*>(to.data), to.stride});
  });
}

void widen(core::Queue& queue, std::int64_t count, const core::StridedBatch& from, const core::StridedBatch& to) {
  const MatrixView &s = from.first, &t = to.first;
  MUONP_ASSERT(t.dtype == Dtype::float32 && s.rows == t.rows && s.cols == t.cols, "[{}, {}] into [{}, {}]", s.rows, s.cols,
               t.rows, t.cols);
  core::with_storage(s.dtype, [&]<class T>(T) {
    core::for_each_row(queue, count * s.rows, s.cols,
                       Widen<T>{static_cast<const T*>(s.data), s.rows, s.stride, from.batch_stride,
                                static_cast<float*>(t.data), t.stride, to.batch_stride});
  });
}

void affine(core::Queue& queue, std::int64_t count, float identity, float factor, const core::StridedBatch& out,
            float term_factor, const MatrixView& term) {
  const MatrixView& to = out.first;
  MUONP_ASSERT(!term.data || (term.dtype == to.dtype && term.rows == to.rows && term.cols == to.cols),
               "[{}, {}] added to [{}, {}]", term.rows, term.cols, to.rows, to.cols);
  core::with_storage(to.dtype, [&]<class T>(T) {
    core::for_each_row(queue, count * to.rows, to.cols,
                       Affine<T>{identity, factor, term_factor, static_cast<T*>(to.data), to.rows, to.stride,
                                 out.batch_stride, static_cast<const T*>(term.data), term.stride});
  });
}

void add_to_diagonal(core::Queue& queue, std::int64_t count, const core::StridedBatch& x, float value) {
  const std::int64_t n = std::min(x.first.rows, x.first.cols);
  core::with_storage(x.first.dtype, [&]<class T>(T) {
    core::for_each(queue, count * n,
                   AddToDiagonal<T>{static_cast<T*>(x.first.data), n, x.first.stride + 1, x.batch_stride, value});
  });
}

double squared_norm(core::Queue& queue, const MatrixView& x) {
  core::HostResult<double> of_row(queue, x.rows);
  core::for_each_row(queue, x.rows, x.cols, RowSquares{static_cast<const float*>(x.data), x.stride, of_row.to_write()});
  double total = 0;
  for (const double sum : of_row.read()) total += sum;
  return total;
}

void multiply_small(core::Queue& queue, std::int64_t count, float alpha, const core::StridedBatch& x,
                    const core::StridedBatch& small, float beta, const core::StridedBatch& out) {
  const bool wide = is_wide(x.first);
  core::gemm_batched(queue, count, Op::none, Op::none, alpha, wide ? small : x, wide ? x : small, beta, out);
}

void multiply_small(core::Queue& queue, float alpha, const MatrixView& x, const MatrixView& small, float beta,
                    const MatrixView& out) {
  const bool wide = is_wide(x);
  core::gemm(queue, Op::none, Op::none, alpha, wide ? small : x, wide ? x : small, beta, out);
}

void plain_gram(core::Queue& queue, std::int64_t count, const core::StridedBatch& x, const core::StridedBatch& out) {
  const bool wide = is_wide(x.first);
  core::gemm_batched(queue, count, wide ? Op::none : Op::transpose, wide ? Op::transpose : Op::none, 1, x, x, 0, out);
}

}  // namespace muonp::optim::spectral
