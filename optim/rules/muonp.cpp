#include "optim/rules/muonp.h"

#include <algorithm>
#include <cmath>

#include "core/base/index.h"
#include "core/device/for_each.h"
#include "optim/rules/adaptive_step.h"
#include "optim/rules/owner_step.h"
#include "optim/rules/pair_step.h"
#include "optim/rules/spectral_step.h"
#include "optim/spectral/gradient_norm.h"
#include "optim/spectral/scales.h"
#include "optim/spectral/spectral_norm.h"

namespace muonp::optim {

void Muonp::describe(core::Fields& f) {
  describe_momentum(f, momentum, momentum_form, nesterov);
  f.step_text(
      "p", p,
      "exponent of U S^p V^T, a fraction in [-1/2, 1]: 0 is Muon, 1 is momentum SGD; adaptive: chosen for each matrix");
  if (adaptive())
    describe_adaptive(f);
  else
    f.others_if("p: adaptive", [](core::Fields& inner) { Muonp().describe_adaptive(inner); });
  describe_spectral(f);
  f.choice("scale", scale, kShapeScales, "size of the update (docs/optimizers.md)");
  f.choice(
      "lora", lora, kLoraRules,
      "factors of model.lora's adapters B A: b_only moves B and leaves A to the group others, both moves each as a matrix, "
      "whitened moves their product (arXiv 2606.12921)");
}

void Muonp::describe_adaptive(core::Fields& f) {
  f.text_list("p_candidates", p_candidates, "exponents that a matrix may be given");
  f.integer("p_every", p_every, {.min = 1}, "steps between choices of the exponent [steps]");
  f.real("p_smoothing", p_smoothing, {.min = 0, .max = 0.999}, "share of the last smoothed exponent in the next one");
  f.real("p_curvature", p_curvature, {.min = 0, .max = 2},
         "c: curvature is taken to grow as sigma^c; 0: the same in every direction (docs/optimizers.md)");
}

void Muonp::validate(const std::string& path) const {
  require_below_one(path, "momentum", momentum);
  if (std::ranges::find(kLoraRules, lora) == std::end(kLoraRules))
    core::fail("{}.lora: '{}' is not known; valid are {}", path, lora, fmt::join(kLoraRules, ", "));
  if (adaptive() && needs().partner_gram)
    core::fail(
        "{}.lora: whitened with p: adaptive: the two factors of an adapter move one product, whose spectrum neither has; "
        "valid are b_only and both, or another p",
        path);
  try {
    check_exponents();
  } catch (const core::Error& e) {
    core::fail("{}: {}", path, e.what());
  }
}

void Muonp::check_exponents() const {
  const std::vector<spectral::Exponent> all = adaptive() ? adaptive_settings().candidates : Exponents(p).all();
  spectral::SpectralOptions options = spectral_options("0", core::DeviceKind::cuda);  // knows every dtype
  const bool schatten = parse_shape_scale(scale) == ShapeScale::schatten;
  for (const spectral::Exponent of : all) {
    options.p = of;
    spectral::make_spectral_power(options);
    if (of.value() < 0 && schatten)
      core::fail(
          "scale schatten needs p >= 0 (p is {}): below 0 there is no Schatten-(1 + 1/p) norm; choose one of "
          "match_rms, spectral, rms1, aspect, none",
          to_string(of));
  }
}

AdaptiveSettings Muonp::adaptive_settings() const {
  AdaptiveSettings settings{.candidates = {}, .every = p_every, .smoothing = p_smoothing, .curvature = p_curvature};
  for (const std::string& candidate : p_candidates) settings.candidates.push_back(spectral::parse_exponent(candidate));
  if (settings.candidates.empty()) core::fail("p_candidates is empty; valid are one or more exponents, as [0, 1/4, 1/2]");
  return settings;
}

std::string Muonp::text() const {
  if (adaptive()) return fmt::format("muonp p={} of {}", kAdaptive, fmt::join(p_candidates, ", "));
  return fmt::format("muonp p={}", Exponents(p).text());
}

std::vector<StateSpec> Muonp::states() const {
  std::vector<StateSpec> states = {{.name = "momentum", .content = Content::moment}};
  if (adaptive())
    for (const char* name : {"p", "p_smoothed"}) states.push_back({.name = name, .form = Form::scalar, .home = Home::owner});
  return states;
}

std::optional<StepExponent> Muonp::step_exponent(std::int64_t step) const {
  if (adaptive()) return std::nullopt;
  const Exponents exponents(p);
  return StepExponent{exponents.at(step), exponents.exact(step)};
}

std::string_view Muonp::shown_state(std::int64_t step) const {
  return adaptive() && adaptive_settings().chooses(step) ? "p" : "";
}

Direction Muonp::direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                           std::span<const core::Tensor> states) const {
  const Momentum form{momentum.at(facts.step), is_ema(momentum_form), nesterov};
  muonp_momentum(queue, form, facts.gradient_scale, gradient.values, states[0]);
  return {gradient.values};
}

std::unique_ptr<MatrixStep> Muonp::matrix_step(core::DeviceKind device) const {
  const ShapeScale factor = parse_shape_scale(scale);
  const spectral::SpectralOptions options = spectral_options("0", device);
  if (adaptive()) {
    const AdaptiveSettings settings = adaptive_settings();
    return std::make_unique<AdaptiveStep>(std::make_unique<SpectralStep>(options, settings.candidates, factor, device),
                                          settings);
  }
  const Exponents exponents(p);
  auto plain = std::make_unique<SpectralStep>(options, exponents, factor, device);
  if (!needs().partner_gram) return plain;
  return std::make_unique<PairStep>(std::move(plain),
                                    std::make_unique<SpectralStep>(options, exponents, ShapeScale::none, device), factor);
}

// Both factors decay by the root of what their product decays by, and steps are divided by it, so that their products with
// the decayed other factor have the size of the step.
StepFacts Muonp::applied(const StepFacts& facts, bool factor) const {
  const double decay = facts.lr * facts.weight_decay;
  if (!factor || !needs().partner_gram || decay == 0) return facts;
  if (decay >= 1) core::fail("lr · weight_decay is {} at step {}; below 1 is valid", decay, facts.step);
  const double kept = std::sqrt(1 - decay);
  StepFacts applied = facts;
  applied.lr = facts.lr / kept;
  applied.weight_decay = (1 - kept) / applied.lr;
  return applied;
}

ShapeScale parse_shape_scale(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kShapeScales); ++i)
    if (name == kShapeScales[i]) return static_cast<ShapeScale>(i);
  core::fail("scale {} is unknown: choose one of {}", name, fmt::join(kShapeScales, ", "));
}

std::string_view name_of(ShapeScale scale) { return kShapeScales[core::at(scale)]; }

namespace {

struct Move {
  float *gradients, *average;
  float scale, mu, own, ahead;  // N = own·g + ahead·M
  using Elements = core::ElementArrays<&Move::gradients, &Move::average>;

  MUONP_HD void operator()(std::int64_t i) const {
    const float g = scale * gradients[i];
    const float moved = mu * average[i] + g;
    average[i] = moved;
    gradients[i] = own * g + ahead * moved;
  }
};

struct Scale {
  float* u;
  double factor;  // in double: alone it may lie outside float32's range where Z is tiny or huge
  using Elements = core::ElementArrays<&Scale::u>;
  MUONP_HD void operator()(std::int64_t i) const { u[i] = static_cast<float>(factor * u[i]); }
};

}  // namespace

void muonp_momentum(core::Queue& queue, const Momentum& form, double gradient_scale, const core::Tensor& gradient,
                    const core::Tensor& momentum) {
  const std::int64_t n = gradient.size();
  MUONP_ASSERT(momentum.size() == n, "{} gradients, {} momentum", n, momentum.size());
  const auto scale = static_cast<float>(form.ema ? gradient_scale * (1 - form.factor) : gradient_scale);
  const auto mu = static_cast<float>(form.factor);
  const float own = form.nesterov ? 1.0f : 0.0f, ahead = form.nesterov ? mu : 1.0f;
  core::for_each(queue, n, Move{gradient.data<float>(), momentum.data<float>(), scale, mu, own, ahead});
}

namespace {

constexpr const char* kNotFinite = "the spectral power of the momentum is not finite";

void check_inner_product(double inner) {
  if (!(inner > 0)) core::fail("the inner product of the momentum and its spectral power is {}, not positive", inner);
}

// ⟨input, Z⟩ = Σσ^{1+p}, so the Schatten-(1 + 1/p) norm of Z is its power p/(1 + p).
double schatten_factor(double inner, double p, std::int64_t side) {
  check_inner_product(inner);
  return std::pow(inner / static_cast<double>(side), -p / (1 + p));
}

double shape_factor(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& z,
                    double norm, const core::Shape& moved) {
  const auto rows = static_cast<double>(moved[0]), cols = static_cast<double>(moved[1]);
  switch (scale) {
    case ShapeScale::match_rms:
      return 0.2 * std::sqrt(rows * cols) / norm;
    case ShapeScale::rms1:
      return std::sqrt(rows * cols) / norm;
    case ShapeScale::schatten:
      return p == 0 ? 1 : schatten_factor(inner_product(queue, input, z), p, std::min(z.dim(0), z.dim(1)));
    case ShapeScale::spectral:
      return std::sqrt(std::max(1.0, rows / cols)) * (p == 0 ? 1.0 : std::pow(spectral_norm(queue, input), -p));
    case ShapeScale::aspect:
      return std::sqrt(std::max(1.0, rows / cols));
    case ShapeScale::none:
      return 1;
  }
  MUONP_ASSERT(false, "shape scale {}", static_cast<int>(scale));
}

}  // namespace

double update_factor(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& z,
                     const core::Shape& moved) {
  MUONP_ASSERT(z.rank() == 2 && input.shape() == z.shape(), "{} and {}", core::to_string(input.shape()),
               core::to_string(z.shape()));
  const SquareSum squares = sum_of_squares(queue, z);
  if (!squares.finite) core::fail("{}", kNotFinite);
  if (squares.sum == 0) return 0;
  return shape_factor(queue, scale, p, input, z, std::sqrt(squares.sum), moved);
}

double scale_update(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& update) {
  const double factor = update_factor(queue, scale, p, input, update, update.shape());
  if (factor != 1 && factor != 0) core::for_each(queue, update.size(), Scale{update.data<float>(), factor});
  return factor;
}

bool can_share(ShapeScale scale) { return scale != ShapeScale::spectral; }

// A scale with a norm, or an inner product, sums it over sharers; the others know theirs.
void scale_share(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& update,
                 const core::Shape& moved, spectral::Sharers& sharers) {
  MUONP_ASSERT(can_share(scale), "{} of a part of a matrix", name_of(scale));
  const double squares = spectral::sum_over(queue.device(), sharers, sum_of_squares(queue, update).sum);
  if (!std::isfinite(squares)) core::fail("{}", kNotFinite);
  if (squares == 0) return;
  double factor = 1;
  if (scale == ShapeScale::schatten && p != 0) {
    const double inner = spectral::sum_over(queue.device(), sharers, inner_product(queue, input, update));
    factor = schatten_factor(inner, p, std::min(moved[0], moved[1]));
  } else if (scale != ShapeScale::schatten) {
    factor = shape_factor(queue, scale, p, input, update, std::sqrt(squares), moved);
  }
  if (factor != 1) core::for_each(queue, update.size(), Scale{update.data<float>(), factor});
}

namespace {

// size·baseᵖᵒʷᵉʳ, 0 for a zero Z.
struct FactorOfPower {
  double size, power;
  const double *base, *squares;
  double* factor;
  MUONP_HD void operator()(std::int64_t i) const { factor[i] = squares[i] == 0 ? 0.0 : size * exp(power * log(base[i])); }
};

// shape_factor() of all matrices, by kernels. The host reads ‖Z‖_F² where `squares` does not say that all are finite, and
// the inner products that have to be positive.
void scale_together(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& update,
                    const core::Tensor& squares) {
  const std::int64_t count = update.dim(0), bytes = count * std::int64_t{sizeof(double)};
  const auto rows = static_cast<double>(update.dim(1)), cols = static_cast<double>(update.dim(2));
  if (update.size() == 0) return;
  const bool of_inner = scale == ShapeScale::schatten && p != 0;
  const core::StridedBatch n = dense(input), z = dense(update);
  const core::Tensor memory = spectral::numbers(queue.device(), (of_inner ? 3 : 2) * count);
  auto *found = static_cast<double*>(memory.raw()), *inner = found + count, *factors = of_inner ? inner + count : inner;
  const auto* of_z = squares ? static_cast<const double*>(squares.raw()) : found;
  if (!squares) spectral::sums_of_squares(queue, count, z, found);
  double size = 1, power = 0;
  const double* base = nullptr;
  core::Tensor largest;
  switch (scale) {
    case ShapeScale::match_rms:
    case ShapeScale::rms1:
      size = (scale == ShapeScale::rms1 ? 1 : 0.2) * std::sqrt(rows * cols);
      power = -0.5;
      base = of_z;
      break;
    case ShapeScale::schatten:
      if (!of_inner) break;
      spectral::inner_products(queue, count, n, z, inner);
      power = -p / (1 + p);
      size = std::pow(std::min(rows, cols), -power);
      base = inner;
      break;
    case ShapeScale::spectral:
      size = std::sqrt(std::max(1.0, rows / cols));
      if (p == 0) break;
      largest = spectral_norms(queue, count, n);
      power = -p;
      base = static_cast<const double*>(largest.raw());
      break;
    case ShapeScale::aspect:
      size = std::sqrt(std::max(1.0, rows / cols));
      break;
    case ShapeScale::none:
      break;
  }
  if (base != nullptr) {
    core::for_each(queue, count, FactorOfPower{size, power, base, of_z, factors});
    spectral::multiply_by(queue, count, z, factors);
  } else if (size != 1) {
    core::for_each(queue, update.size(), Scale{update.data<float>(), size});
  }
  if (squares && !of_inner) return;
  if (squares) queue.copy(found, of_z, bytes);  // beside the inner products, for one read
  std::vector<double> seen(core::at(2 * count));
  queue.read(seen.data(), found, of_inner ? 2 * bytes : bytes);
  for (std::int64_t i = 0; i < count; ++i) {
    try {
      const double of = seen[core::at(i)];
      if (!std::isfinite(of)) core::fail("{}", kNotFinite);
      if (of_inner && of != 0) check_inner_product(seen[core::at(count + i)]);
    } catch (const core::Error& e) {
      core::fail("matrix {} of {}: {}", i, count, e.what());
    }
  }
}

}  // namespace

void scale_updates(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& update,
                   const core::Tensor& squares) {
  if (queue.kind() == core::DeviceKind::cuda) return scale_together(queue, scale, p, input, update, squares);
  for (std::int64_t i = 0; i < update.dim(0); ++i) {
    try {
      scale_update(queue, scale, p, input[i], update[i]);
    } catch (const core::Error& e) {
      core::fail("matrix {} of {}: {}", i, update.dim(0), e.what());
    }
  }
}

}  // namespace muonp::optim
