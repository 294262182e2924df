#include "launch/bench/spectral_benchmark.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/device/blas.h"
#include "core/device/host_view.h"
#include "launch/bench/singular_system.h"
#include "launch/train/plain_product.h"

namespace muonp::launch {
namespace {

using core::Tensor;
using optim::spectral::SpectralPower;

template <class F>
double seconds_of(core::Queue& queue, const F& f) {
  queue.synchronize();
  const double start = core::seconds_now();
  f();
  queue.synchronize();
  return core::seconds_now() - start;
}

Tensor as_tensor(core::Device& device, const std::vector<double>& values, std::int64_t rows, std::int64_t cols) {
  const std::vector<float> rounded(values.begin(), values.end());
  Tensor tensor = Tensor::empty(device, {rows, cols}, core::Dtype::float32, core::Category::other);
  device.queue().write(tensor.raw(), rounded.data(), tensor.bytes());
  return tensor;
}

void measure_accuracy(core::Queue& queue, const SingularSystem& system, const Tensor& z, SpectralMeasurement& m) {
  const double p = m.options.p.value();
  const core::HostView result(queue, z, core::Access::read);
  const SpectralErrors all = measure_errors(system, result.data<float>(), p, m.options.epsilon * 0.999999);
  const SpectralErrors designed = measure_errors(system, result.data<float>(), p, m.options.epsilon * m.report.scale.at(0));
  m.relative_error_max = all.worst;
  m.relative_error_scaled = designed.worst;
  m.relative_error_frobenius = all.frobenius;
}

Tensor gaussian(core::Device& device, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  std::vector<double> values(static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(core::normal(seed, 0, i));
  return as_tensor(device, values, rows, cols);
}

}  // namespace

double median(std::vector<double> values) {
  MUONP_ASSERT(!values.empty(), "the median of nothing");
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

SpectralBenchmarkResult run_spectral_benchmark(Session& session, const SpectralBenchmark& benchmark) {
  const std::size_t count = benchmark.candidates.size();
  MUONP_ASSERT(count > benchmark.baseline && benchmark.repeats >= 1, "{} candidates, {} repeats", count, benchmark.repeats);
  core::Device& device = session.device();
  std::vector<std::unique_ptr<SpectralPower>> powers;
  for (const auto& options : benchmark.candidates) powers.push_back(optim::spectral::make_spectral_power(options));

  std::optional<SingularSystem> system;
  if (benchmark.errors)
    system = random_singular_system(benchmark.rows, benchmark.cols, benchmark.candidates[0].epsilon, benchmark.seed);
  const Tensor g = system ? as_tensor(device, power_of(*system, 1), benchmark.rows, benchmark.cols)
                          : gaussian(device, benchmark.rows, benchmark.cols, benchmark.seed);
  const Tensor z = Tensor::empty(device, g.shape(), core::Dtype::float32, core::Category::other);
  std::map<core::Dtype, PlainProduct> products;  // by storage
  for (const auto& options : benchmark.candidates)
    products.try_emplace(options.dtype, device, std::max(benchmark.rows, benchmark.cols),
                         std::min(benchmark.rows, benchmark.cols), options.dtype);

  SpectralBenchmarkResult result;
  for (std::size_t i = 0; i < count; ++i) {
    SpectralMeasurement m;
    m.options = benchmark.candidates[i];
    m.report = powers[i]->apply(device, g, z);
    if (system) measure_accuracy(device.queue(), *system, z, m);
    result.measurements.push_back(std::move(m));
  }
  for (const auto& [dtype, product] : products) product.run();

  // As many products at a time as have the candidate's work: on a shared machine, a short and a long
  // measurement do not see the same speed.
  std::vector<std::vector<double>> seconds(count);
  for (std::int64_t repeat = 0; repeat < benchmark.repeats; ++repeat) {
    for (std::size_t i = 0; i < count; ++i) {
      PlainProduct& product = products.at(benchmark.candidates[i].dtype);
      const double runs = std::clamp(std::round(result.measurements[i].report.flops / product.flops()), 1.0, 32.0);
      seconds[i].push_back(seconds_of(device.queue(), [&] { powers[i]->apply(device, g, z); }));
      const double together = seconds_of(device.queue(), [&] {
        for (int run = 0; run < static_cast<int>(runs); ++run) product.run();
      });
      product.seconds.push_back(together / runs);
    }
  }
  for (const auto& [dtype, product] : products) {
    const double typical = median(product.seconds);
    result.products.push_back({dtype, typical, product.flops() / typical * 1e-9});
  }
  for (std::size_t i = 0; i < count; ++i) {
    SpectralMeasurement& m = result.measurements[i];
    m.gemm_gflops = std::ranges::find(result.products, m.options.dtype, &ProductMeasurement::dtype)->gflops;
    m.seconds_median = median(seconds[i]);
    m.seconds_min = *std::min_element(seconds[i].begin(), seconds[i].end());
    std::vector<double> ratios;
    for (std::size_t r = 0; r < seconds[i].size(); ++r) ratios.push_back(seconds[i][r] / seconds[benchmark.baseline][r]);
    m.ratio = median(ratios);
  }
  return result;
}

}  // namespace muonp::launch
