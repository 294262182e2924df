#include "optim/spectral/per_matrix.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/index.h"
#include "core/device/cpu/tasks.h"
#include "core/device/host_view.h"
#include "optim/spectral/elementwise.h"
#include "optim/spectral/products.h"
#include "optim/spectral/scales.h"

namespace muonp::optim::spectral {
namespace {

using core::MatrixView;
using core::Tensor;

// Below this many operations a product does not occupy several threads, and matrices of a batch are shared
// out.
constexpr double kSmallProduct = 2.0 * 320 * 320 * 320;

std::int64_t batch_size(const Tensor& t) { return t.rank() == 2 ? 1 : t.dim(0); }

MatrixView matrix_of(const Tensor& t, std::int64_t index) {
  const std::int64_t rows = t.dim(-2), cols = t.dim(-1);
  return {t.data<float>() + index * rows * cols, rows, cols, cols};
}

[[noreturn]] void fail_non_finite(core::Queue& queue, const Tensor& g, std::int64_t index) {
  const std::int64_t rows = g.dim(-2), cols = g.dim(-1), size = rows * cols;
  const core::HostView host(queue, g.flat(index * size, size), core::Access::read);
  const std::span<const float> data = host.span<float>();
  for (std::int64_t i = 0; i < size; ++i)
    if (!std::isfinite(data[i]))
      core::fail(
          "spectral power: matrix {} of {} ([{}, {}]) has the entry {} at row {}, column {}; "
          "all entries have to be finite",
          index, batch_size(g), rows, cols, data[i], i / cols, i % cols);
  MUONP_ASSERT(false, "finite entries with a non-finite norm");
}

void check_tensors(const Tensor& g, const Tensor& z) {
  MUONP_ASSERT((g.rank() == 2 || g.rank() == 3) && g.shape() == z.shape(), "spectral power of {} into {}",
               core::to_string(g.shape()), core::to_string(z.shape()));
  MUONP_ASSERT(g.dtype() == core::Dtype::float32 && z.dtype() == core::Dtype::float32, "{} and {}, not float32",
               name_of(g.dtype()), name_of(z.dtype()));
  const char *g_begin = static_cast<const char*>(g.raw()), *z_begin = static_cast<const char*>(z.raw());
  MUONP_ASSERT(g_begin + g.bytes() <= z_begin || z_begin + z.bytes() <= g_begin, "the result overlaps its input");
}

}  // namespace

SpectralPlan PerMatrix::plan(std::int64_t rows, std::int64_t cols) const {
  const std::int64_t n = std::min(rows, cols);
  SpectralPlan plan;
  plan.products = flops(rows, cols) / core::gemm_flops(n, n, n);
  return plan;
}

double PerMatrix::gain(const Input& input, double scale) const { return std::pow(scale / input.factor, options_.p.value()); }

Outcome PerMatrix::one_of_batch(core::Device& device, const Tensor& g, const Tensor& z, std::int64_t index) const {
  core::Queue& queue = device.queue();
  Input input{matrix_of(g, index), 1, 0};
  const MatrixView out = matrix_of(z, index);
  const double norm = std::sqrt(squared_norm(queue, input.g));
  if (!std::isfinite(norm)) fail_non_finite(queue, g, index);
  if (norm == 0) {
    queue.fill_zero(out.data, out.rows * out.cols * core::size_of(out.dtype));
    Outcome zero;
    zero.predicted_error = 0;
    return zero;
  }
  int exponent = 0;
  input.norm = std::frexp(norm, &exponent);
  input.factor = std::ldexp(1.0, -exponent);
  Outcome outcome;
  try {
    outcome = one(device, input, out);
  } catch (const core::Error& error) {
    core::fail("spectral power, {} at p = {}: matrix {} of {} ([{}, {}]): {}", options_.method, to_string(options_.p), index,
               batch_size(g), out.rows, out.cols, error.what());
  }
  outcome.scale /= input.factor;
  return outcome;
}

PerMatrix::Together PerMatrix::all(core::Device&, std::int64_t, const core::StridedBatch&, const core::StridedBatch&) const {
  MUONP_ASSERT(false, "{} takes matrices in turn", options_.method);
}

PerMatrix::Together PerMatrix::measured(Scales& scales, const core::StridedBatch& z, const Outcome& each) {
  scales.measure(z);
  Together together;
  together.squares = scales.results();
  for (const Scales::OfMatrix& of : scales.read()) {
    together.norms.push_back(of.norm);
    together.results.push_back(of.result);
    together.outcomes.push_back(each);
    together.outcomes.back().scale = of.scale;
  }
  return together;
}

PerMatrix::Together PerMatrix::together(core::Device& device, const Tensor& g, const Tensor& z) const {
  const std::int64_t batch = batch_size(g), rows = g.dim(-2), cols = g.dim(-1);
  Together together = all(device, batch, {matrix_of(g, 0), rows * cols}, {matrix_of(z, 0), rows * cols});
  for (std::int64_t i = 0; i < batch; ++i) {
    if (!std::isfinite(together.norms[core::at(i)])) fail_non_finite(device.queue(), g, i);
    if (!std::isfinite(together.results[core::at(i)]))
      core::fail("spectral power, {} at p = {}: matrix {} of {} ([{}, {}]): the result is not finite in {}", options_.method,
                 to_string(options_.p), i, batch, rows, cols, name_of(options_.dtype));
  }
  return together;
}

namespace {

void require_products(core::Queue& queue, core::Dtype dtype) {
  if (dtype == core::Dtype::float32) return;
  if (const std::string refusal = core::product_refusal(queue, dtype); !refusal.empty())
    core::fail("dtype: {}: {}", name_of(dtype), refusal);
}

}  // namespace

Outcome PerMatrix::share(core::Device&, const Size&, const Input&, const MatrixView&, Sharers&) const {
  MUONP_ASSERT(false, "{} takes matrices whole", options_.method);
}

std::int64_t PerMatrix::part_bytes(const Size&, const Size&) const {
  MUONP_ASSERT(false, "{} takes matrices whole", options_.method);
}

std::optional<SharedWork> PerMatrix::shared_work(std::int64_t rows, std::int64_t cols, int sharers) const {
  const std::int64_t side = std::min(rows, cols);
  const std::optional<ProductCount> count = product_count(rows, cols);
  if (!count || !can_share(side, sharers)) return std::nullopt;
  return Products::shared_work(side, sharers, count->halves + count->full, count->grams, shared_numbers());
}

std::int64_t PerMatrix::share_workspace_bytes(std::int64_t rows, std::int64_t cols, int sharers) const {
  const auto longest_part = [sharers](std::int64_t length) { return (length + sharers - 1) / sharers; };
  const Size part = rows < cols ? Size{rows, longest_part(cols)} : Size{longest_part(rows), cols};
  std::int64_t panels = 0;
  for (int i = 0; i < sharers; ++i) panels = std::max(panels, Products::shared_bytes(std::min(rows, cols), sharers, i));
  return part_bytes({rows, cols}, part) + panels;
}

void PerMatrix::apply_share(core::Device& device, std::int64_t rows, std::int64_t cols, const Tensor& g, const Tensor& z,
                            Sharers& sharers) {
  check_tensors(g, z);
  core::Queue& queue = device.queue();
  require_products(queue, options_.dtype);
  Input input{matrix_of(g, 0), 1, 0};
  const double squares = squared_norm(queue, input.g);
  const double norm = std::sqrt(sum_over(device, sharers, squares));
  if (!std::isfinite(squares)) fail_non_finite(queue, g, 0);
  if (!std::isfinite(norm))
    core::fail("spectral power: a matrix [{}, {}] has an entry that is not finite on another of the {} ranks that share it",
               rows, cols, sharers.size());
  if (norm == 0) return queue.fill_zero(z.raw(), z.bytes());
  int exponent = 0;
  input.norm = std::frexp(norm, &exponent);
  input.factor = std::ldexp(1.0, -exponent);
  share(device, {rows, cols}, input, matrix_of(z, 0), sharers);
}

std::vector<Outcome> PerMatrix::outcomes_of(core::Device& device, const Tensor& g, const Tensor& z) const {
  core::Queue& queue = device.queue();
  const std::int64_t batch = batch_size(g), rows = g.dim(-2), cols = g.dim(-1), n = std::min(rows, cols);
  std::vector<Outcome> outcomes(static_cast<std::size_t>(batch));
  const auto run = [&](std::int64_t i) { outcomes[core::at(i)] = one_of_batch(device, g, z, i); };
  if (batch >= queue.threads() && core::gemm_flops(n, n, std::max(rows, cols)) < kSmallProduct)
    core::run_tasks(queue, batch, run);
  else
    for (std::int64_t i = 0; i < batch; ++i) run(i);
  return outcomes;
}

SpectralReport PerMatrix::apply(core::Device& device, const Tensor& g, const Tensor& z) {
  check_tensors(g, z);
  core::Queue& queue = device.queue();
  require_products(queue, options_.dtype);
  SpectralReport report;
  report.scale.assign(core::at(batch_size(g)), 0.0);
  if (g.size() == 0) return report;
  std::vector<Outcome> outcomes;
  if (takes_together(queue.kind())) {
    Together all = together(device, g, z);
    outcomes = std::move(all.outcomes);
    report.squares = std::move(all.squares);
  } else {
    outcomes = outcomes_of(device, g, z);
  }
  bool any = false;  // predicted errors and steps are those of any matrix that is not zero
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const Outcome& o = outcomes[i];
    report.scale[i] = o.scale;
    report.flops += o.flops;
    if (o.scale == 0) continue;
    any = true;
    report.steps = o.steps;
    report.restarts = o.restarts;
    report.predicted_error = o.predicted_error;
  }
  if (!any) report.predicted_error = 0;
  return report;
}

}  // namespace muonp::optim::spectral
