// Times and errors of spectral powers, measured side by side on one matrix in one process.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/program/session.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::launch {

struct SpectralBenchmark {
  std::int64_t rows = 1024, cols = 1024;
  std::vector<optim::spectral::SpectralOptions> candidates;  // at least one
  std::size_t baseline = 0;                                  // index of the candidate that ratios are taken to
  std::int64_t repeats = 7;
  std::uint64_t seed = 1;
  bool errors = true;  // compare with float64, which takes the host minutes above 4096 x 4096
};

struct SpectralMeasurement {
  optim::spectral::SpectralOptions options;
  optim::spectral::SpectralReport report;
  double seconds_median = 0, seconds_min = 0;
  double ratio = 1;                    // median over the repeats of its seconds / the baseline's seconds beside it
  double relative_error_max = NAN;     // of σᵖ, over singular values in [ε, 1]·σ_max
  double relative_error_scaled = NAN;  // the same over [ε, 1]·scale, which is what the method is designed for
  double relative_error_frobenius = NAN;
  double gemm_gflops = 0;  // of the plain product in its storage
  double gflops() const { return report.flops / seconds_median * 1e-9; }
};

// A plain product max(rows, cols) × n by n × n, n = min(rows, cols), timed between the candidates of its storage.
struct ProductMeasurement {
  core::Dtype dtype = core::Dtype::float32;
  double seconds = 0, gflops = 0;
};

struct SpectralBenchmarkResult {
  std::vector<SpectralMeasurement> measurements;
  std::vector<ProductMeasurement> products;
};

// The matrix has random singular vectors and σ geometric from 1 to the first candidate's ε; without errors it is Gaussian,
// and they are NaN. Each candidate and its product run once unmeasured, then in turn, `repeats` times.
SpectralBenchmarkResult run_spectral_benchmark(Session& session, const SpectralBenchmark& benchmark);

double median(std::vector<double> values);  // of at least one

}  // namespace muonp::launch
