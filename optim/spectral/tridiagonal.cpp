#include "optim/spectral/tridiagonal.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/device/cpu/tasks.h"

namespace muonp::optim::spectral {

namespace {

constexpr std::int64_t kPanel = 16;          // reflectors before the rest of the matrix is updated
constexpr std::int64_t kRowsOfTask = 256;    // of a product with a vector
constexpr std::int64_t kRowsOfUpdate = 128;  // made together, whole from the diagonal's block on

std::int64_t tasks_of(std::int64_t rows) { return (rows + kRowsOfTask - 1) / kRowsOfTask; }

class Reduction {
 public:
  Reduction(core::Queue& queue, const core::MatrixView& a, float* scratch)
      : queue_(queue), a_(static_cast<float*>(a.data)), stride_(a.stride), n_(a.rows), panel_(scratch) {}

  void run(float* diagonal, float* beside) {
    for (std::int64_t first = 0; first < n_; first += kPanel) {
      const std::int64_t end = std::min(first + kPanel, n_);
      std::fill_n(panel_, 2 * kPanel * n_, 0.0f);
      for (std::int64_t k = first; k < end; ++k) reflect(k, k - first, diagonal, beside);
      update(end);
    }
  }

 private:
  // Of the panel: v, w = t y − (t² yᵀv/2) v with y = A v for A as it is by then, and v once more. A becomes A − v wᵀ − w vᵀ.
  float* v(std::int64_t j) const { return panel_ + j * n_; }
  float* w(std::int64_t j) const { return panel_ + (kPanel + j) * n_; }
  float* partial(std::int64_t task) const { return panel_ + (3 * kPanel + task - 1) * n_; }

  // Row k, the panel's j-th: its element of the diagonal, the reflector that zeroes it from k + 2 on, and y and w with that.
  void reflect(std::int64_t k, std::int64_t j, float* diagonal, float* beside) {
    float *to_v = v(j), *to_w = w(j), of_v[kPanel], of_w[kPanel];
    std::copy_n(a_ + k * (stride_ + 1), n_ - k, to_v + k);
    for (std::int64_t i = 0; i < j; ++i) of_v[i] = v(i)[k], of_w[i] = w(i)[k];
    subtract(j, of_w, of_v, k, to_v);
    diagonal[k] = to_v[k];
    to_v[k] = 0;
    if (k + 1 == n_) return;
    double rest = 0;
    for (std::int64_t c = k + 2; c < n_; ++c) rest += static_cast<double>(to_v[c]) * to_v[c];
    const Reflector reflector = Reflector::of(to_v[k + 1], rest);
    beside[k] = static_cast<float>(reflector.norm);
    const auto scale = static_cast<float>(reflector.scale), twist = static_cast<float>(reflector.twist);
    to_v[k + 1] = 1;
    for (std::int64_t c = k + 2; c < n_; ++c) to_v[c] *= scale;

    multiply(k + 1, to_v, to_w);
    for (std::int64_t i = 0; i < j; ++i) inner_products(v(i), w(i), to_v, k + 1, of_v[i], of_w[i]);
    subtract(j, of_w, of_v, k + 1, to_w);
    double yv = 0;
    for (std::int64_t c = k + 1; c < n_; ++c) yv += static_cast<double>(to_w[c]) * to_v[c];
    const auto half = static_cast<float>(0.5 * reflector.twist * reflector.twist * yv);
    for (std::int64_t c = k + 1; c < n_; ++c) to_w[c] = twist * to_w[c] - half * to_v[c];
  }

  // x ← x − Σ (of_w v + of_v w) over the panel's first `count`, two at a time, from `begin` on.
  void subtract(std::int64_t count, const float* of_w, const float* of_v, std::int64_t begin, float* x) const {
    for (std::int64_t i = 0; i < count; i += 2) {
      const bool two = i + 1 < count;
      const float *v0 = v(i), *w0 = w(i), *v1 = two ? v(i + 1) : v0, *w1 = two ? w(i + 1) : w0;
      const float a0 = of_w[i], b0 = of_v[i], a1 = two ? of_w[i + 1] : 0.0f, b1 = two ? of_v[i + 1] : 0.0f;
#pragma omp simd
      for (std::int64_t c = begin; c < n_; ++c) x[c] -= v0[c] * a0 + w0[c] * b0 + v1[c] * a1 + w1[c] * b1;
    }
  }

  void inner_products(const float* of_v, const float* of_w, const float* x, std::int64_t begin, float& vx, float& wx) const {
    float sum_v = 0, sum_w = 0;
#pragma omp simd reduction(+ : sum_v, sum_w)
    for (std::int64_t c = begin; c < n_; ++c) sum_v += of_v[c] * x[c], sum_w += of_w[c] * x[c];
    vx = sum_v;
    wx = sum_w;
  }

  // y = A x of the rows and columns from `first` on. Each task has rows, and its own y beside the first one's.
  void multiply(std::int64_t first, const float* x, float* y) const {
    const std::int64_t tasks = tasks_of(n_ - first);
    core::run_tasks(queue_, tasks, [&](std::int64_t i) {
      const std::int64_t begin = first + i * kRowsOfTask;
      multiply_rows(begin, std::min(begin + kRowsOfTask, n_), x, i == 0 ? y : partial(i));
    });
    for (std::int64_t i = 1; i < tasks; ++i) {
      const float* more = partial(i);
      for (std::int64_t c = first + i * kRowsOfTask; c < n_; ++c) y[c] += more[c];
    }
  }

  // What rows begin to end of the upper triangle make of y, from `begin` on: an element that is read counts for its row and
  // for its column.
  void multiply_rows(std::int64_t begin, std::int64_t end, const float* x, float* y) const {
    std::fill(y + begin, y + n_, 0.0f);
    std::int64_t r = begin;
    for (; r + 4 <= end; r += 4) {
      const float *a0 = a_ + r * stride_, *a1 = a0 + stride_, *a2 = a1 + stride_, *a3 = a2 + stride_;
      const float x0 = x[r], x1 = x[r + 1], x2 = x[r + 2], x3 = x[r + 3];
      float s0 = a0[r] * x0 + a0[r + 1] * x1 + a0[r + 2] * x2 + a0[r + 3] * x3;
      float s1 = a0[r + 1] * x0 + a1[r + 1] * x1 + a1[r + 2] * x2 + a1[r + 3] * x3;
      float s2 = a0[r + 2] * x0 + a1[r + 2] * x1 + a2[r + 2] * x2 + a2[r + 3] * x3;
      float s3 = a0[r + 3] * x0 + a1[r + 3] * x1 + a2[r + 3] * x2 + a3[r + 3] * x3;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
      for (std::int64_t c = r + 4; c < n_; ++c) {
        s0 += a0[c] * x[c];
        s1 += a1[c] * x[c];
        s2 += a2[c] * x[c];
        s3 += a3[c] * x[c];
        y[c] += a0[c] * x0 + a1[c] * x1 + a2[c] * x2 + a3[c] * x3;
      }
      y[r] += s0;
      y[r + 1] += s1;
      y[r + 2] += s2;
      y[r + 3] += s3;
    }
    for (; r < end; ++r) {
      const float *a = a_ + r * stride_, of_row = x[r];
      float sum = a[r] * of_row;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t c = r + 1; c < n_; ++c) {
        sum += a[c] * x[c];
        y[c] += a[c] * of_row;
      }
      y[r] += sum;
    }
  }

  // A ← A − Σ (v wᵀ + w vᵀ) over the panel, from row and column `begin` on.
  void update(std::int64_t begin) const {
    std::copy_n(v(0), kPanel * n_, v(0) + 2 * kPanel * n_);
    const std::int64_t blocks = (n_ - begin + kRowsOfUpdate - 1) / kRowsOfUpdate;
    core::run_tasks(queue_, blocks, [&](std::int64_t i) {
      const std::int64_t row = begin + i * kRowsOfUpdate, rows = std::min(kRowsOfUpdate, n_ - row);
      const core::MatrixView vw(v(0) + row, 2 * kPanel, rows, n_), wv(w(0) + row, 2 * kPanel, n_ - row, n_);
      core::gemm_on_one_thread(queue_, core::Op::transpose, core::Op::none, -1, vw, wv, 1,
                               {a_ + row * (stride_ + 1), rows, n_ - row, stride_});
    });
  }

  core::Queue& queue_;
  float* a_;
  std::int64_t stride_, n_;
  float* panel_;
};

}  // namespace

void tridiagonalize(core::Queue& queue, const core::MatrixView& a, float* scratch, float* diagonal, float* beside) {
  MUONP_ASSERT(queue.kind() == core::DeviceKind::cpu && a.rows == a.cols, "[{}, {}]", a.rows, a.cols);
  Reduction(queue, a, scratch).run(diagonal, beside);
}

std::int64_t tridiagonal_scratch(std::int64_t n) { return (3 * kPanel + tasks_of(n) - 1) * n; }

}  // namespace muonp::optim::spectral
