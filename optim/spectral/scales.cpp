#include "optim/spectral/scales.h"

#include <cmath>

#include "core/base/storage.h"
#include "core/device/for_each.h"
#include "optim/spectral/bound.h"

namespace muonp::optim::spectral {
namespace {

using core::StridedBatch;

constexpr std::int64_t kArrays = 12;

// Σ x² and Σ x·y of each row, then of each matrix's rows.
template <class T>
struct RowSquares {
  const T* data;
  std::int64_t rows, stride, apart;
  double* sums = nullptr;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T* p = data + row.index / rows * apart + row.index % rows * stride;
    sums[row.index] = row.sum([](T value) { return double(float(value)) * double(float(value)); }, p);
  }
};
struct RowProducts {
  const float *x, *y;
  std::int64_t rows, x_stride, x_apart, y_stride, y_apart;
  double* sums = nullptr;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t matrix = row.index / rows, r = row.index % rows;
    const float *p = x + matrix * x_apart + r * x_stride, *q = y + matrix * y_apart + r * y_stride;
    sums[row.index] = row.sum([](float a, float b) { return double(a) * double(b); }, p, q);
  }
};
struct MatrixSums {
  const double* of_rows;
  std::int64_t rows;
  double* sums;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const double* p = of_rows + row.index * rows;
    sums[row.index] = row.sum([=](std::int64_t i) { return p[i]; });
  }
};

template <class OfRow>
void sum_over_rows(core::Queue& queue, std::int64_t count, std::int64_t rows, std::int64_t cols, OfRow of_row,
                   double* sums) {
  const core::Tensor of_rows = numbers(queue.device(), count * rows);
  of_row.sums = static_cast<double*>(of_rows.raw());
  core::for_each_row(queue, count * rows, cols, of_row);
  core::for_each_row(queue, count, rows, MatrixSums{of_row.sums, rows, sums});
}

}  // namespace

core::Tensor numbers(core::Device& device, std::int64_t count) {
  static_assert(sizeof(double) == 2 * sizeof(std::int32_t));
  return core::Tensor::empty(device, {2 * count}, core::Dtype::int32, core::Category::other);
}

void sums_of_squares(core::Queue& queue, std::int64_t count, const StridedBatch& x, double* sums) {
  core::with_storage(x.first.dtype, [&]<class T>(T) {
    sum_over_rows(queue, count, x.first.rows, x.first.cols,
                  RowSquares<T>{static_cast<const T*>(x.first.data), x.first.rows, x.first.stride, x.batch_stride}, sums);
  });
}

void inner_products(core::Queue& queue, std::int64_t count, const StridedBatch& x, const StridedBatch& y, double* sums) {
  MUONP_ASSERT(x.first.dtype == core::Dtype::float32 && y.first.dtype == core::Dtype::float32 &&
                   x.first.rows == y.first.rows && x.first.cols == y.first.cols,
               "[{}, {}] and [{}, {}]", x.first.rows, x.first.cols, y.first.rows, y.first.cols);
  sum_over_rows(queue, count, x.first.rows, x.first.cols,
                RowProducts{static_cast<const float*>(x.first.data), static_cast<const float*>(y.first.data), x.first.rows,
                            x.first.stride, x.batch_stride, y.first.stride, y.batch_stride},
                sums);
}

namespace {

// to = by[matrix]·extra·from
template <class To>
struct CopyBy {
  const float* from;
  std::int64_t rows, from_stride, from_apart;
  const double* by;
  double extra;
  To* to;
  std::int64_t to_stride, to_apart;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t matrix = row.index / rows, r = row.index % rows;
    const float* s = from + matrix * from_apart + r * from_stride;
    To* t = to + matrix * to_apart + r * to_stride;
    const double factor = by[matrix] * extra;
    row.over([=](float value, To& out) { out = To(static_cast<float>(value * factor)); }, s, core::Written<To>{t});
  }
};
// x ← by[matrix]·x
template <class T>
struct MultiplyBy {
  T* x;
  std::int64_t rows, stride, apart;
  const double* by;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    T* p = x + row.index / rows * apart + row.index % rows * stride;
    const double factor = by[row.index / rows];
    row.over([=](T& value) { value = T(static_cast<float>(double(float(value)) * factor)); }, p);
  }
};

void copy_by(core::Queue& queue, std::int64_t count, const StridedBatch& from, const double* by, double extra,
             const StridedBatch& to) {
  MUONP_ASSERT(
      from.first.dtype == core::Dtype::float32 && from.first.rows == to.first.rows && from.first.cols == to.first.cols,
      "[{}, {}] into [{}, {}]", from.first.rows, from.first.cols, to.first.rows, to.first.cols);
  core::with_storage(to.first.dtype, [&]<class T>(T) {
    core::for_each_row(
        queue, count * from.first.rows, from.first.cols,
        CopyBy<T>{static_cast<const float*>(from.first.data), from.first.rows, from.first.stride, from.batch_stride, by,
                  extra, static_cast<T*>(to.first.data), to.first.stride, to.batch_stride});
  });
}

}  // namespace

void multiply_by(core::Queue& queue, std::int64_t count, const StridedBatch& x, const double* by) {
  core::with_storage(x.first.dtype, [&]<class T>(T) {
    core::for_each_row(queue, count * x.first.rows, x.first.cols,
                       MultiplyBy<T>{static_cast<T*>(x.first.data), x.first.rows, x.first.stride, x.batch_stride, by});
  });
}

namespace {

// Neither zero nor NaN nor infinite.
MUONP_HD bool is_usable(double x) { return x > 0 && x <= 1.7976931348623157e308; }

struct FindFactor {
  const double* squares;
  double *factor, *scale;
  MUONP_HD void operator()(std::int64_t i) const {
    int exponent = 0;
    scale[i] = is_usable(squares[i]) ? frexp(sqrt(squares[i]), &exponent) : 1.0;
    factor[i] = ldexp(1.0, -exponent);
  }
};

struct FindUnit {
  const double* squares;  // of the Gram matrix
  double root_of_n, by;
  double *unit, *divide;
  MUONP_HD void operator()(std::int64_t i) const {
    const double u = is_usable(squares[i]) ? sqrt(squares[i]) / root_of_n : 1.0;
    unit[i] = u / (by * by);
    divide[i] = 1 / u;
  }
};

// The moments of row i of A and A²: a_ii, and its shares of ⟨A, A⟩, ⟨A, A²⟩ and ⟨A², A²⟩, from the lower triangles.
template <class T>
struct RowMoments {
  const T* a;
  const float* squared;
  std::int64_t rows, a_stride, a_apart, squared_stride, squared_apart;
  double* out;  // four times as many as there are rows

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t matrix = row.index / rows, r = row.index % rows;
    const T* p = a + matrix * a_apart + r * a_stride;
    const float* q = squared + matrix * squared_apart + r * squared_stride;
    const auto below = row.part(r);
    const double pp = below.sum([](T x) { return double(float(x)) * double(float(x)); }, p);
    const double pq = below.sum([](T x, float y) { return double(float(x)) * double(y); }, p, q);
    const double qq = below.sum([](float y) { return double(y) * double(y); }, q);
    const double dp = float(p[r]), dq = q[r];
    double* of_row = out + matrix * 4 * rows + r;
    of_row[0] = dp;
    of_row[rows] = 2 * pp + dp * dp;
    of_row[2 * rows] = 2 * pq + dp * dq;
    of_row[3 * rows] = 2 * qq + dq * dq;
  }
};

struct FindScale {
  const double* moments;  // four of each
  const double* unit;
  double n, slack;
  double *scale, *by, *by_square;
  MUONP_HD void operator()(std::int64_t i) const {
    const double* m = moments + 4 * i;
    const double highest = is_usable(m[3]) ? eigenvalue_bound(n, m[0], m[1], m[2], m[3], slack) : 1.0;
    scale[i] = sqrt(highest * unit[i]);
    by[i] = 1 / highest;
    by_square[i] = by[i] * by[i];
  }
};

struct InverseNorm {
  const double* squares;
  double* by;
  MUONP_HD void operator()(std::int64_t i) const { by[i] = is_usable(squares[i]) ? 1 / sqrt(squares[i]) : 0.0; }
};

struct Quotient {
  const double *a, *b;
  double* out;
  MUONP_HD void operator()(std::int64_t i) const { out[i] = a[i] / b[i]; }
};

struct Gain {
  const double *squares, *scale, *factor;
  double p;
  bool over_scale;
  double* by;
  MUONP_HD void operator()(std::int64_t i) const {
    const double gain = squares[i] == 0 ? 0.0 : exp(p * log(scale[i] / factor[i]));
    by[i] = over_scale ? gain / scale[i] : gain;
  }
};

struct Fill {
  double* x;
  double value;
  MUONP_HD void operator()(std::int64_t i) const { x[i] = value; }
};

}  // namespace

Scales::Scales(core::Device& device, std::int64_t count, Sharers* sharers)
    : queue_(device.queue()),
      count_(count),
      sharers_(sharers),
      memory_(numbers(device, kArrays * count)),
      squares_(array(0)),
      factor_(array(1)),
      unit_(array(2)),
      scale_(array(3)),
      result_(array(kResults)),
      sum_(array(5)),
      by_(array(6)),
      by_square_(array(7)),
      moments_(array(8)) {
  core::for_each(queue_, count, Fill{unit_, 1});
}

// Of all sharers' parts.
void Scales::sum_squares(const StridedBatch& x, double* sums) {
  sums_of_squares(queue_, count_, x, sums);
  if (sharers_ == nullptr) return;
  double sum = 0;
  queue_.read(&sum, sums, std::int64_t{sizeof sum});
  sum = sum_over(queue_.device(), *sharers_, sum);
  queue_.write(sums, &sum, std::int64_t{sizeof sum});
}

void Scales::find_factor(const StridedBatch& g) {
  sum_squares(g, squares_);
  core::for_each(queue_, count_, FindFactor{squares_, factor_, scale_});
}

void Scales::copy_by_factor(const StridedBatch& g, double by, const StridedBatch& to) {
  copy_by(queue_, count_, g, factor_, by, to);
}

void Scales::copy_by_norm(const StridedBatch& g, const StridedBatch& to) {
  core::for_each(queue_, count_, InverseNorm{squares_, by_});
  copy_by(queue_, count_, g, by_, 1, to);
}

void Scales::divide_gram(const StridedBatch& gram, double by, const StridedBatch& to) {
  sums_of_squares(queue_, count_, gram, sum_);
  const double root = std::sqrt(std::sqrt(static_cast<double>(gram.first.rows)));
  core::for_each(queue_, count_, FindUnit{sum_, root, by, unit_, by_});
  copy_by(queue_, count_, gram, by_, 1, to);
}

void Scales::find_scale(const StridedBatch& a, const StridedBatch& squared) {
  const std::int64_t n = a.first.rows;
  MUONP_ASSERT(squared.first.dtype == core::Dtype::float32 && squared.first.rows == n, "A² in {}",
               name_of(squared.first.dtype));
  const core::Tensor of_rows = numbers(queue_.device(), 4 * count_ * n);
  auto* partial = static_cast<double*>(of_rows.raw());
  core::with_storage(a.first.dtype, [&]<class T>(T) {
    core::for_each_row(queue_, count_ * n, n,
                       RowMoments<T>{static_cast<const T*>(a.first.data), static_cast<const float*>(squared.first.data), n,
                                     a.first.stride, a.batch_stride, squared.first.stride, squared.batch_stride, partial});
  });
  core::for_each_row(queue_, 4 * count_, n, MatrixSums{partial, n, moments_});
  // tf32's products read 10 bits of what the moments are made of, and only many rows take that out of them. The 16-bit
  // storages have the same slack; float32's products read all of it.
  const double slack = kMomentSlack + (a.first.dtype == core::Dtype::float32 ? 0 : 2e-3 / static_cast<double>(n));
  core::for_each(queue_, count_, FindScale{moments_, unit_, static_cast<double>(n), slack, scale_, by_, by_square_});
  multiply_by(queue_, count_, a, by_);
  multiply_by(queue_, count_, squared, by_square_);
}

void Scales::copy_by_scale(const StridedBatch& g, const StridedBatch& to) {
  core::for_each(queue_, count_, Quotient{factor_, scale_, by_});
  copy_by(queue_, count_, g, by_, 1, to);
}

void Scales::gain(double p, const StridedBatch& x, bool over_scale) {
  core::for_each(queue_, count_, Gain{squares_, scale_, factor_, p, over_scale, by_});
  multiply_by(queue_, count_, x, by_);
}

void Scales::measure(const StridedBatch& z) { sum_squares(z, result_); }

std::vector<Scales::OfMatrix> Scales::read() const {
  const auto count = static_cast<std::size_t>(count_);
  std::vector<double> numbers((kResults + 1) * count);
  queue_.read(numbers.data(), array(0), (kResults + 1) * count_ * std::int64_t{sizeof(double)});
  std::vector<OfMatrix> all(count);
  for (std::size_t i = 0; i < count; ++i)
    all[i] = {std::sqrt(numbers[i]), numbers[i] == 0 ? 0 : numbers[3 * count + i] / numbers[count + i],
              numbers[kResults * count + i]};
  return all;
}

}  // namespace muonp::optim::spectral
