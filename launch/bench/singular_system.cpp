#include "launch/bench/singular_system.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/rng.h"
#include "core/device/lapack.h"

// LAPACK is column-major: a row-major m × n matrix is its n × m transpose, and the vectors lie one after the
// other.
namespace muonp::launch {
namespace {

int checked_int(std::int64_t n) {
  if (n > std::numeric_limits<int>::max()) core::fail("a matrix with a side of {} is too large for LAPACK", n);
  return static_cast<int>(n);
}

void require_success(int status, const char* routine) {
  if (status != 0) core::fail("LAPACK {} failed with status {}", routine, status);
}

// `count` orthonormal vectors of `length`.
std::vector<double> random_orthonormal(std::int64_t length, std::int64_t count, std::uint64_t seed) {
  std::vector<double> q(static_cast<std::size_t>(length * count));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = core::normal(seed, 0, i);
  require_success(core::lapack::orthonormalize(checked_int(length), checked_int(count), q.data()), "dgeqrf or dorgqr");
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

double norm(std::span<const double> x) { return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0)); }

// Σ weight_i u_i v_iᵀ, row-major.
std::vector<double> compose(const SingularSystem& system, const std::vector<double>& weights) {
  const int m = checked_int(system.rows), n = checked_int(system.cols), k = checked_int(system.size());
  std::vector<double> scaled = system.u;
  for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] *= weights[i / static_cast<std::size_t>(m)];
  std::vector<double> result(static_cast<std::size_t>(system.rows * system.cols));
  core::lapack::dgemm(false, true, n, m, k, system.v.data(), scaled.data(), result.data());
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
  require_success(
      core::lapack::dgesdd(checked_int(cols), checked_int(rows), a.data(), system.sigma.data(), system.v.data(), ut.data()),
      "dgesdd");
  for (std::int64_t i = 0; i < k; ++i)
    for (std::int64_t r = 0; r < rows; ++r) system.u[core::at(i * rows + r)] = ut[core::at(r * k + i)];
  return system;
}

SingularSystem random_singular_system(std::int64_t rows, std::int64_t cols, double smallest, std::uint64_t seed) {
  const std::int64_t k = std::min(rows, cols);
  SingularSystem system{rows, cols, {}, random_orthonormal(rows, k, 2 * seed), random_orthonormal(cols, k, 2 * seed + 1)};
  for (std::int64_t i = 0; i < k; ++i)
    system.sigma.push_back(k == 1 ? 1.0 : std::pow(smallest, static_cast<double>(i) / static_cast<double>(k - 1)));
  return system;
}

std::vector<double> power_of(const SingularSystem& system, double p) { return compose(system, powers(system, p)); }

SpectralErrors measure_errors(const SingularSystem& system, const float* z, double p, double smallest) {
  const int m = checked_int(system.rows), n = checked_int(system.cols), k = checked_int(system.size());
  const std::vector<double> exact = powers(system, p);
  const std::vector<double> computed(z, z + system.rows * system.cols);
  std::vector<double> zv(static_cast<std::size_t>(system.rows * system.size()));  // vector i is Z v_i
  core::lapack::dgemm(true, false, m, k, n, computed.data(), system.v.data(), zv.data());
  SpectralErrors errors;
  for (std::int64_t i = 0; i < k; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (system.sigma[at] < smallest || exact[at] == 0) continue;
    const double* const u = system.u.data() + i * m;
    const double value = std::inner_product(u, u + m, zv.data() + i * m, 0.0);
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
