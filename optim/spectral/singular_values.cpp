#include "optim/spectral/singular_values.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "core/device/cpu/tasks.h"
#include "core/device/cpu/team.h"
#include "core/device/lapack.h"

namespace muonp::optim {

namespace {

std::vector<double> values_of(const HostMatrix& matrix) {
  const int m = core::to_int(matrix.rows), n = core::to_int(matrix.cols), small = std::min(m, n);
  if (small == 0) return {};
  std::vector<double> x(core::at(matrix.rows * matrix.cols)), gram(core::at(std::int64_t{small} * small)),
      values(core::at(small));
  for (std::int64_t i = 0; i < matrix.rows; ++i)
    std::copy_n(matrix.data + i * matrix.pitch, matrix.cols, x.begin() + i * matrix.cols);
  const core::cpu::TeamSize one_thread(1);  // the number of threads decides the order of sums
  // Row-major X is column-major Xᵀ.
  if (n <= m)
    core::lapack::dgemm(false, true, n, n, m, x.data(), x.data(), gram.data());
  else
    core::lapack::dgemm(true, false, m, m, n, x.data(), x.data(), gram.data());
  if (const int info = core::lapack::dsyev_values(small, gram.data(), values.data()); info != 0)
    core::fail("a Gram matrix has no eigenvalues (LAPACK's info {})", info);
  std::ranges::reverse(values);
  for (double& value : values) value = std::sqrt(std::max(0.0, value));
  return values;
}

}  // namespace

std::vector<std::vector<double>> singular_values(core::Queue& queue, std::span<const HostMatrix> matrices) {
  std::vector<std::vector<double>> all(matrices.size());
  core::run_tasks(queue, std::ssize(matrices), [&](std::int64_t i) { all[core::at(i)] = values_of(matrices[core::at(i)]); });
  return all;
}

double singular_values_flops(std::int64_t rows, std::int64_t cols) {
  const double n = static_cast<double>(std::min(rows, cols)), k = static_cast<double>(std::max(rows, cols));
  return 2 * k * n * n + 4.0 / 3 * n * n * n;
}

}  // namespace muonp::optim
