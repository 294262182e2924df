#include "launch/singular_system.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "core/error.h"
#include "core/rng.h"

// LAPACK is column-major: a row-major m × n matrix is its n × m transpose, and the vectors lie one after the
// other.
namespace muonp::launch {
namespace {

int checked_int(std::int64_t n) {
  if (n > std::numeric_limits<int>::max())
    core::fail("a matrix with a side of {} is too large for LAPACK", n);
  return static_cast<int>(n);
}

void require_success(int status, const char* routine) {
  if (status != 0) core::fail("LAPACK {} failed with status {}", routine, status);
}

// `count` orthonormal vectors of `length`.
std::vector<double> random_orthonormal(std::int64_t length, std::int64_t count, std::uint64_t seed) {
  std::vector<double> q(static_cast<std::size_t>(length * count));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = core::normal(seed, 0, i);
  std::vector<double> tau(static_cast<std::size_t>(count));
  const int m = checked_int(length), n = checked_int(count);
  require_success(LAPACKE_dgeqrf(LAPACK_COL_MAJOR, m, n, q.data(), m, tau.data()), "dgeqrf");
  require_success(LAPACKE_dorgqr(LAPACK_COL_MAJOR, m, n, n, q.data(), m, tau.data()), "dorgqr");
  return q;
}

double power(double sigma, double p, double negligible) {
  if (sigma == 0 || (p <= 0 && sigma <= negligible)) return 0;
  return std::pow(sigma, p);
}

std::vector<double> powers(const SingularSystem& system, double p) {
  const double largest = *std::max_element(system.sigma.begin(), system.sigma.end());
  const double negligible = static_cast<double>(std::max(system.rows, system.cols)) * 0x1p-24 * largest;
  std::vector<double> result;
  for (const double sigma : system.sigma) result.push_back(power(sigma, p, negligible));
  return result;
}

double norm(std::span<const double> x) {
  return cblas_dnrm2(checked_int(static_cast<std::int64_t>(x.size())), x.data(), 1);
}

// Σ weight_i u_i v_iᵀ, row-major.
std::vector<double> compose(const SingularSystem& system, const std::vector<double>& weights) {
  const int m = checked_int(system.rows), n = checked_int(system.cols), k = checked_int(system.size());
  std::vector<double> scaled = system.u;
  for (int i = 0; i < k; ++i)
    cblas_dscal(m, weights[static_cast<std::size_t>(i)], scaled.data() + std::int64_t{i} * m, 1);
  std::vector<double> result(static_cast<std::size_t>(system.rows * system.cols));
  cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, k, 1.0, scaled.data(), m, system.v.data(), n,
              0.0, result.data(), n);
  return result;
}

}  // namespace

SingularSystem singular_system_of(const float* matrix, std::int64_t rows, std::int64_t cols) {
  const std::int64_t k = std::min(rows, cols);
  SingularSystem system{rows, cols, std::vector<double>(static_cast<std::size_t>(k)),
                        std::vector<double>(static_cast<std::size_t>(rows * k)),
                        std::vector<double>(static_cast<std::size_t>(cols * k))};
  std::vector<double> a(matrix, matrix + rows * cols);
  std::vector<double> ut(static_cast<std::size_t>(k * rows));  // k × rows, column-major: u_i is a row
  const int m = checked_int(rows), n = checked_int(cols), terms = checked_int(k);
  require_success(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', n, m, a.data(), n, system.sigma.data(),
                                 system.v.data(), n, ut.data(), terms),
                  "dgesdd");
  for (std::int64_t i = 0; i < k; ++i) cblas_dcopy(m, ut.data() + i, terms, system.u.data() + i * rows, 1);
  return system;
}

SingularSystem random_singular_system(std::int64_t rows, std::int64_t cols, double smallest,
                                      std::uint64_t seed) {
  const std::int64_t k = std::min(rows, cols);
  SingularSystem system{
      rows, cols, {}, random_orthonormal(rows, k, 2 * seed), random_orthonormal(cols, k, 2 * seed + 1)};
  for (std::int64_t i = 0; i < k; ++i)
    system.sigma.push_back(k == 1 ? 1.0
                                  : std::pow(smallest, static_cast<double>(i) / static_cast<double>(k - 1)));
  return system;
}

std::vector<double> power_of(const SingularSystem& system, double p) {
  return compose(system, powers(system, p));
}

SpectralErrors measure_errors(const SingularSystem& system, const float* z, double p, double smallest) {
  const int m = checked_int(system.rows), n = checked_int(system.cols), k = checked_int(system.size());
  const std::vector<double> exact = powers(system, p);
  const std::vector<double> computed(z, z + system.rows * system.cols);
  std::vector<double> zv(static_cast<std::size_t>(system.rows * system.size()));  // vector i is Z v_i
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, k, m, n, 1.0, system.v.data(), n, computed.data(), n,
              0.0, zv.data(), m);
  SpectralErrors errors;
  for (std::int64_t i = 0; i < k; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (system.sigma[at] < smallest || exact[at] == 0) continue;
    const double value = cblas_ddot(m, system.u.data() + i * m, 1, zv.data() + i * m, 1);
    errors.worst = std::max(errors.worst, std::fabs(value / exact[at] - 1));
    ++errors.counted;
  }
  if (errors.counted == 0) errors.worst = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> difference = compose(system, exact);
  const double size = norm(exact);
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= computed[i];
  errors.frobenius = norm(difference) / (size > 0 ? size : 1);
  return errors;
}

}  // namespace muonp::launch
