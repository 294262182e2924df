#include "optim/spectral/eigenvalues.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/index.h"
#include "core/device/cpu/tasks.h"
#include "core/device/for_each.h"
#include "optim/spectral/tridiagonal.h"

namespace muonp::optim::spectral {

namespace {

constexpr int kHalvings = 26;  // of an interval that is at most three times the largest eigenvalue

// Vectors of n beside each matrix. Of Householder vectors there are two, that of this step and that of the step before.
enum Vector : std::int64_t { diagonal, beside, eigenvalues, householder, moved = 5, product, factor, kVectors };

struct Work {
  float* a;  // n × n
  std::int64_t n, stride, apart;
  // Zero at first. Of a GPU [count, kVectors, n]; of a CPU, which takes one matrix, with tridiagonal_scratch() in place of
  // all that comes behind `eigenvalues`.
  float* vectors;

  MUONP_HD float* of(std::int64_t matrix, std::int64_t vector) const { return vectors + (matrix * kVectors + vector) * n; }
  MUONP_HD float* reflector(std::int64_t matrix, std::int64_t step) const { return of(matrix, householder + step % 2); }
};

// A GPU's step k of the tridiagonalisation, a row for each matrix, columns from k on. v and t are the last step's reflector
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
    const Reflector reflector = Reflector::of(x(1), rest);
    work.of(i, beside)[k] = static_cast<float>(reflector.norm);
    work.of(i, factor)[k] = static_cast<float>(reflector.twist);
    row.each([=](std::int64_t c) { next[c] = c < 2 ? static_cast<float>(c) : static_cast<float>(reflector.scale * x(c)); });
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

struct Tridiagonal {
  std::int64_t n;
  const float *d, *e;
  float above;  // Gershgorin's bound of the largest eigenvalue

  MUONP_ROW_KERNEL static Tridiagonal of(const R& row, const Work& work, std::int64_t i) {
    const std::int64_t n = work.n;
    const float *d = work.of(i, diagonal), *e = work.of(i, beside);
    const float above =
        row.max([=](std::int64_t c) { return d[c] + (c > 0 ? fabsf(e[c - 1]) : 0.0f) + (c + 1 < n ? fabsf(e[c]) : 0.0f); });
    return {n, d, e, above > 0 ? above : 0.0f};
  }

  // Sturm counts: how many pivots of T − xI are negative is how many eigenvalues are below x.
  template <int kLanes>
  MUONP_HD void count_below(const float (&x)[kLanes], int (&below)[kLanes]) const {
    const float tiny = 1e-20f * above + 1e-30f;
    float pivot[kLanes];
    for (int l = 0; l < kLanes; ++l) {
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
  }
};

// Of each matrix, how many eigenvalues are below each point of a grid from 0 to their bound.
struct Grid {
  std::int32_t* counts;  // [count, points]
  std::int64_t points;   // a power of two
};

// A thread looks at kLanes points at a time, whose divisions do not wait for each other, and a row of a kernel at kGroups
// times as many.
template <int kLanes, int kGroups>
struct Bisect {
  static constexpr int kPerRow = kLanes * kGroups;

  // At all points of the grid.
  struct Count {
    Work work;
    Grid grid;

    MUONP_ROW_KERNEL void operator()(const R& row) const {
      const std::int64_t rows = grid.points / kPerRow, i = row.index / rows, first = row.index % rows * kPerRow;
      const Tridiagonal t = Tridiagonal::of(row, work, i);
      const float step = t.above / static_cast<float>(grid.points);
      std::int32_t* to = grid.counts + i * grid.points + first;
      row.part(kGroups).each([=](std::int64_t g) {
        float x[kLanes];
        int below[kLanes];
        for (int l = 0; l < kLanes; ++l) x[l] = step * static_cast<float>(first + g * kLanes + l);
        t.count_below(x, below);
        for (int l = 0; l < kLanes; ++l) to[g * kLanes + l] = below[l];
      });
    }
  };

  // Eigenvalues by bisection, from the grid's interval that has them.
  struct Find {
    Work work;
    Grid grid;
    std::int64_t rows;  // of each matrix
    int halvings;

    MUONP_ROW_KERNEL void operator()(const R& row) const {
      const std::int64_t i = row.index / rows, first = row.index % rows * kPerRow;
      const Tridiagonal t = Tridiagonal::of(row, work, i);
      row.part(kGroups).each([=, *this](std::int64_t g) { find(t, i, first + g * kLanes); });
    }

    MUONP_HD void find(const Tridiagonal& t, std::int64_t i, std::int64_t first) const {
      float low[kLanes], high[kLanes], x[kLanes];
      int below[kLanes];
      const std::int32_t* counts = grid.counts + i * grid.points;
      const float step = t.above / static_cast<float>(grid.points);
      for (int l = 0; l < kLanes; ++l) {
        std::int64_t at = 0;  // the last point with no more eigenvalues below than come before this one
        for (std::int64_t jump = grid.points / 2; jump > 0; jump /= 2)
          if (counts[at + jump] <= first + l) at += jump;
        low[l] = step * static_cast<float>(at);
        high[l] = step * static_cast<float>(at + 1);
      }
      for (int halving = 0; halving < halvings; ++halving) {
        for (int l = 0; l < kLanes; ++l) x[l] = 0.5f * (low[l] + high[l]);
        t.count_below(x, below);
        for (int l = 0; l < kLanes; ++l) {
          const bool lower = below[l] > first + l;
          high[l] = lower ? x[l] : high[l];
          low[l] = lower ? low[l] : x[l];
        }
      }
      for (int l = 0; l < kLanes; ++l)
        if (first + l < t.n) work.of(i, eigenvalues)[first + l] = 0.5f * (low[l] + high[l]);
    }
  };
};

// Eight vectors of eight; a warp, and registers enough for what a lane needs.
using OnCpu = Bisect<64, 1>;
using OnGpu = Bisect<2, 32>;

std::int64_t grid_of(std::int64_t n) {
  static_assert(OnCpu::kPerRow == OnGpu::kPerRow);
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(n, OnCpu::kPerRow))));
}

int halvings_left(std::int64_t grid) { return kHalvings - std::countr_zero(static_cast<std::uint64_t>(grid)); }

void find_on_gpu(core::Queue& queue, std::int64_t count, const Work& work, const Grid& grid) {
  for (std::int64_t k = 0; k < work.n; ++k) {
    const std::int64_t rest = work.n - k - 1;
    core::for_each_row(queue, count, rest + 1, Reflect{work, k});
    if (rest > 0) core::for_each_row(queue, count * rest, rest, Multiply{work, k});
  }
  const std::int64_t rows = (work.n + OnGpu::kPerRow - 1) / OnGpu::kPerRow;
  core::for_each_row(queue, count * (grid.points / OnGpu::kPerRow), work.n, OnGpu::Count{work, grid});
  core::for_each_row(queue, count * rows, work.n, OnGpu::Find{work, grid, rows, halvings_left(grid.points)});
}

void find_on_cpu(core::Queue& queue, const Work& work, const Grid& grid) {
  const core::MatrixView a(work.a, work.n, work.n, work.stride);
  tridiagonalize(queue, a, work.of(0, householder), work.of(0, diagonal), work.of(0, beside));
  const std::int64_t rows = (work.n + OnCpu::kPerRow - 1) / OnCpu::kPerRow;
  core::for_each_host_row(queue, grid.points / OnCpu::kPerRow, work.n, OnCpu::Count{work, grid});
  core::for_each_host_row(queue, rows, work.n, OnCpu::Find{work, grid, rows, halvings_left(grid.points)});
}

std::int64_t elements_of_vectors(std::int64_t n, core::DeviceKind device) {
  return device == core::DeviceKind::cuda ? kVectors * n : householder * n + tridiagonal_scratch(n);
}

}  // namespace

std::vector<float> symmetric_eigenvalues(core::Queue& queue, std::int64_t count, const core::StridedBatch& matrices) {
  const core::MatrixView& first = matrices.first;
  MUONP_ASSERT(first.rows == first.cols && first.dtype == core::Dtype::float32, "[{}, {}] {}", first.rows, first.cols,
               name_of(first.dtype));
  const std::int64_t n = first.rows;
  if (n == 0 || count == 0) return {};
  const std::int64_t of_one = elements_of_vectors(n, queue.kind()), points = grid_of(n);
  const core::Tensor vectors =
      core::Tensor::zeros(queue.device(), {count, of_one}, core::Dtype::float32, core::Category::exchange);
  const core::Tensor counts =
      core::Tensor::empty(queue.device(), {count, points}, core::Dtype::int32, core::Category::exchange);
  const auto work_of = [&](std::int64_t i) {
    return Work{static_cast<float*>(first.data) + i * matrices.batch_stride, n, first.stride, matrices.batch_stride,
                vectors.data<float>() + i * of_one};
  };
  const auto one = [&](std::int64_t i) {
    find_on_cpu(queue, work_of(i), {counts.data<std::int32_t>() + i * points, points});
  };
  if (queue.kind() == core::DeviceKind::cuda)
    find_on_gpu(queue, count, work_of(0), {counts.data<std::int32_t>(), points});
  else if (count >= queue.threads())
    core::run_tasks(queue, count, one);
  else
    for (std::int64_t i = 0; i < count; ++i) one(i);
  std::vector<float> values(core::at(count * of_one)), found;
  queue.read(values.data(), vectors.raw(), vectors.bytes());
  for (std::int64_t i = 0; i < count; ++i) {
    const auto begin = values.begin() + i * of_one + eigenvalues * n;
    std::sort(begin, begin + n);
    found.insert(found.end(), begin, begin + n);
  }
  return found;
}

// A GPU updates and multiplies both triangles in one pass, 6 operations for each element of what is left of the matrix; a
// CPU multiplies and updates one triangle, 4 operations for each element of both.
double symmetric_eigenvalues_flops(std::int64_t n, core::DeviceKind device) {
  const auto size = static_cast<double>(n), grid = static_cast<double>(grid_of(n));
  return (device == core::DeviceKind::cuda ? 2 : 4.0 / 3) * size * size * size +
         4 * size * (grid + size * halvings_left(grid_of(n)));
}

std::int64_t symmetric_eigenvalues_bytes(std::int64_t n, core::DeviceKind device) {
  return 4 * (elements_of_vectors(n, device) + grid_of(n));
}

}  // namespace muonp::optim::spectral
