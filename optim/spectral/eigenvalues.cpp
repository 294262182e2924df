#include "optim/spectral/eigenvalues.h"

#include <algorithm>
#include <cmath>

#include "core/base/index.h"
#include "core/device/cpu/tasks.h"
#include "core/device/for_each.h"

namespace muonp::optim::spectral {

namespace {

constexpr int kHalvings = 26;  // of an interval that is at most three times the largest eigenvalue

// Vectors of n beside each matrix. Of Householder vectors there are two, that of this step and that of the step before.
enum Vector : std::int64_t { householder, moved = 2, product, factor, diagonal, beside, eigenvalues, kVectors };

struct Work {
  float* a;  // n × n
  std::int64_t n, stride, apart;
  float* vectors;  // [count, kVectors, n], zero at first

  MUONP_HD float* of(std::int64_t matrix, std::int64_t vector) const { return vectors + (matrix * kVectors + vector) * n; }
  MUONP_HD float* reflector(std::int64_t matrix, std::int64_t step) const { return of(matrix, householder + step % 2); }
};

// Step k of the tridiagonalisation, a row for each matrix, columns from k on. v and t are the last step's reflector
// I − t v vᵀ, y = A v. The rest of A is still to become A − v wᵀ − w vᵀ with w = t y − (t² yᵀv/2) v; row k of it is made
// here, and the reflector that zeroes it from k + 2 on.
struct Reflect {
  Work work;
  std::int64_t k;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t i = row.index;
    const float *y = work.of(i, product) + k, *v = work.reflector(i, k + 1) + k;
    const float* a = work.a + i * work.apart + k * (work.stride + 1);
    float *to_w = work.of(i, moved) + k, *next = work.reflector(i, k) + k;
    const float t = k == 0 ? 0.0f : work.of(i, factor)[k - 1];
    const double yv = row.sum([](float p, float q) { return static_cast<double>(p) * q; }, y, v);
    const auto half = static_cast<float>(0.5 * t * t * yv);
    const auto w = [=](std::int64_t c) { return t * y[c] - half * v[c]; };
    const float v0 = v[0], w0 = w(0);
    const auto x = [=](std::int64_t c) { return a[c] - v0 * w(c) - w0 * v[c]; };
    row.each([=](std::int64_t c) { to_w[c] = w(c); });
    work.of(i, diagonal)[k] = x(0);
    if (row.cols == 1) return;
    const double rest = row.sum([=](std::int64_t c) { return c < 2 ? 0.0 : static_cast<double>(x(c)) * x(c); });
    const double x1 = x(1);
    double norm = x1, scale = 0, twist = 0;
    if (rest > 1e-60) {  // below, there is nothing to zero: beside elements of 1 float32 does not see it
      norm = x1 > 0 ? -sqrt(x1 * x1 + rest) : sqrt(x1 * x1 + rest);
      scale = 1 / (x1 - norm);
      twist = (norm - x1) / norm;
    }
    work.of(i, beside)[k] = static_cast<float>(norm);
    work.of(i, factor)[k] = static_cast<float>(twist);
    row.each([=](std::int64_t c) { next[c] = c < 2 ? static_cast<float>(c) : static_cast<float>(scale * x(c)); });
  }
};

// The rest of step k, a row for each row of each matrix below k: A ← A − v wᵀ − w vᵀ of the last step, and y = A v with the
// new v, in one pass over A.
struct Multiply {
  Work work;
  std::int64_t k;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t i = row.index / row.cols, first = k + 1, r = first + row.index % row.cols;
    const float *v = work.reflector(i, k + 1), *w = work.of(i, moved), *next = work.reflector(i, k) + first;
    const float vr = v[r], wr = w[r];
    float* a = work.a + i * work.apart + r * work.stride + first;
    v += first;
    w += first;
    work.of(i, product)[r] = row.sum([=](std::int64_t c) {
      const float value = a[c] - vr * w[c] - wr * v[c];
      a[c] = value;
      return value * next[c];
    });
  }
};

// Bisection with Sturm counts: how many pivots of T − xI are negative is how many eigenvalues are below x. A thread looks
// for kLanes of them at a time, whose divisions do not wait for each other, and a row of the kernel for kGroups times as
// many.
template <int kLanes, int kGroups>
struct Bisect {
  static constexpr int kPerRow = kLanes * kGroups;
  Work work;
  std::int64_t rows;  // of each matrix

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t i = row.index / rows, first = row.index % rows * kPerRow, n = work.n;
    const float *d = work.of(i, diagonal), *e = work.of(i, beside);
    float* to = work.of(i, eigenvalues);
    const float above = row.max([=](std::int64_t c) {  // Gershgorin
      return d[c] + (c > 0 ? fabsf(e[c - 1]) : 0.0f) + (c + 1 < n ? fabsf(e[c]) : 0.0f);
    });
    row.part(kGroups).each([=](std::int64_t g) { find(n, d, e, above, first + g * kLanes, to); });
  }

 private:
  MUONP_HD static void find(std::int64_t n, const float* d, const float* e, float above, std::int64_t first, float* to) {
    float low[kLanes], high[kLanes], x[kLanes], pivot[kLanes];
    int below[kLanes];
    const float tiny = 1e-20f * above + 1e-30f;
    for (int l = 0; l < kLanes; ++l) {
      low[l] = 0;
      high[l] = above > 0 ? above : 0.0f;
    }
    for (int step = 0; step < kHalvings; ++step) {
      for (int l = 0; l < kLanes; ++l) {
        x[l] = 0.5f * (low[l] + high[l]);
        pivot[l] = 1;
        below[l] = 0;
      }
      for (std::int64_t j = 0; j < n; ++j) {
        const float square = j > 0 ? e[j - 1] * e[j - 1] : 0.0f, diagonal_j = d[j];
        for (int l = 0; l < kLanes; ++l) {
          const float q = diagonal_j - x[l] - square / pivot[l];
          pivot[l] = fabsf(q) < tiny ? -tiny : q;
          below[l] += pivot[l] < 0 ? 1 : 0;
        }
      }
      for (int l = 0; l < kLanes; ++l) {
        const bool lower = below[l] > first + l;
        high[l] = lower ? x[l] : high[l];
        low[l] = lower ? low[l] : x[l];
      }
    }
    for (int l = 0; l < kLanes; ++l)
      if (first + l < n) to[first + l] = 0.5f * (low[l] + high[l]);
  }
};

// Two vectors of eight; a warp, and registers enough for what a lane needs.
using OnCpu = Bisect<16, 1>;
using OnGpu = Bisect<2, 32>;

void find_eigenvalues(core::Queue& queue, std::int64_t count, const Work& work) {
  for (std::int64_t k = 0; k < work.n; ++k) {
    const std::int64_t rest = work.n - k - 1;
    core::for_each_row(queue, count, rest + 1, Reflect{work, k});
    if (rest > 0) core::for_each_row(queue, count * rest, rest, Multiply{work, k});
  }
  if (queue.kind() == core::DeviceKind::cuda) {
    const std::int64_t rows = (work.n + OnGpu::kPerRow - 1) / OnGpu::kPerRow;
    return core::for_each_row(queue, count * rows, work.n, OnGpu{work, rows});
  }
  const std::int64_t rows = (work.n + OnCpu::kPerRow - 1) / OnCpu::kPerRow;
  core::for_each_host_row(queue, count * rows, work.n, OnCpu{work, rows});
}

}  // namespace

std::vector<float> symmetric_eigenvalues(core::Queue& queue, std::int64_t count, const core::StridedBatch& matrices) {
  const core::MatrixView& first = matrices.first;
  MUONP_ASSERT(first.rows == first.cols && first.dtype == core::Dtype::float32, "[{}, {}] {}", first.rows, first.cols,
               name_of(first.dtype));
  const std::int64_t n = first.rows;
  if (n == 0 || count == 0) return {};
  const core::Tensor vectors =
      core::Tensor::zeros(queue.device(), {count, kVectors, n}, core::Dtype::float32, core::Category::exchange);
  const Work all{static_cast<float*>(first.data), n, first.stride, matrices.batch_stride, vectors.data<float>()};
  const auto one = [&](std::int64_t i) {
    Work of_one = all;
    of_one.a += i * all.apart;
    of_one.vectors = all.of(i, 0);
    find_eigenvalues(queue, 1, of_one);
  };
  if (queue.kind() == core::DeviceKind::cuda)
    find_eigenvalues(queue, count, all);
  else if (count >= queue.threads())
    core::run_tasks(queue, count, one);
  else
    for (std::int64_t i = 0; i < count; ++i) one(i);
  std::vector<float> values(core::at(count * kVectors * n)), found;
  queue.read(values.data(), vectors.raw(), vectors.bytes());
  for (std::int64_t i = 0; i < count; ++i) {
    const auto begin = values.begin() + (i * kVectors + eigenvalues) * n;
    std::sort(begin, begin + n);
    found.insert(found.end(), begin, begin + n);
  }
  return found;
}

// A is updated and multiplied in one pass, both triangles of it: 6 operations for each element of what is left of it.
double symmetric_eigenvalues_flops(std::int64_t n) {
  const auto size = static_cast<double>(n);
  return 2 * size * size * size + 4.0 * kHalvings * size * size;
}

std::int64_t symmetric_eigenvalues_bytes(std::int64_t n) { return 4 * kVectors * n; }

}  // namespace muonp::optim::spectral
