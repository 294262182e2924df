#include "optim/rules/muonp.h"

#include <algorithm>
#include <cmath>

#include "core/device/for_each.h"
#include "optim/spectral/gradient_norm.h"
#include "optim/spectral/spectral_norm.h"

namespace muonp::optim {

ShapeScale parse_shape_scale(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kShapeScales); ++i)
    if (name == kShapeScales[i]) return static_cast<ShapeScale>(i);
  core::fail("scale {} is unknown: choose one of {}", name, fmt::join(kShapeScales, ", "));
}

std::string_view name_of(ShapeScale scale) { return kShapeScales[static_cast<std::size_t>(scale)]; }

namespace {

struct Momentum {
  float *gradients, *average;
  float scale, mu, own, ahead;  // N = own·g + ahead·M
  using Elements = core::ElementArrays<&Momentum::gradients, &Momentum::average>;

  MUONP_HD void operator()(std::int64_t i) const {
    const float g = scale * gradients[i];
    const float moved = mu * average[i] + g;
    average[i] = moved;
    gradients[i] = own * g + ahead * moved;
  }
};

struct Apply {
  float* w;
  const float* u;
  float keep, rate;
  using Elements = core::ElementArrays<&Apply::w, &Apply::u>;
  MUONP_HD void operator()(std::int64_t i) const { w[i] = keep * w[i] - rate * u[i]; }
};

struct Scale {
  float* u;
  double factor;  // in double: alone it may lie outside float32's range where Z is tiny or huge
  using Elements = core::ElementArrays<&Scale::u>;
  MUONP_HD void operator()(std::int64_t i) const { u[i] = static_cast<float>(factor * u[i]); }
};

}  // namespace

void muonp_momentum(core::Queue& queue, const MuonpParams& params, double gradient_scale,
                    const core::Tensor& gradient, const core::Tensor& momentum) {
  const std::int64_t n = gradient.size();
  MUONP_ASSERT(momentum.size() == n, "{} gradients, {} momentum", n, momentum.size());
  const auto scale = static_cast<float>(params.ema ? gradient_scale * (1 - params.momentum) : gradient_scale);
  const auto mu = static_cast<float>(params.momentum);
  const float own = params.nesterov ? 1.0f : 0.0f, ahead = params.nesterov ? mu : 1.0f;
  core::for_each(queue, n,
                 Momentum{gradient.data<float>(), momentum.data<float>(), scale, mu, own, ahead});
}

void apply_update(core::Queue& queue, const core::Tensor& master, const core::Tensor& update, double lr,
                  double weight_decay) {
  MUONP_ASSERT(update.size() == master.size(), "{} weights, {} updates", master.size(), update.size());
  const auto keep = static_cast<float>(1 - lr * weight_decay), rate = static_cast<float>(lr);
  core::for_each(queue, master.size(), Apply{master.data<float>(), update.data<float>(), keep, rate});
}

namespace {

// ⟨input, Z⟩ = Σσ^{1+p}, so the Schatten-(1 + 1/p) norm of Z is its power p/(1 + p).
double schatten_factor(core::Queue& queue, double p, const core::Tensor& input, const core::Tensor& z) {
  if (p == 0) return 1;
  const double inner = inner_product(queue, input, z);
  if (!(inner > 0))
    core::fail("the inner product of the momentum and its spectral power is {}, not positive", inner);
  return std::pow(inner / static_cast<double>(std::min(z.dim(0), z.dim(1))), -p / (1 + p));
}

double shape_factor(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input,
                    const core::Tensor& z, double norm) {
  const auto rows = static_cast<double>(z.dim(0)), cols = static_cast<double>(z.dim(1));
  switch (scale) {
    case ShapeScale::match_rms:
      return 0.2 * std::sqrt(rows * cols) / norm;
    case ShapeScale::rms1:
      return std::sqrt(rows * cols) / norm;
    case ShapeScale::schatten:
      return schatten_factor(queue, p, input, z);
    case ShapeScale::spectral:
      return std::sqrt(std::max(1.0, rows / cols)) *
             (p == 0 ? 1.0 : std::pow(spectral_norm(queue, input), -p));
    case ShapeScale::none:
      return 1;
  }
  MUONP_ASSERT(false, "shape scale {}", static_cast<int>(scale));
}

}  // namespace

double scale_update(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input,
                    const core::Tensor& update) {
  MUONP_ASSERT(update.rank() == 2 && input.shape() == update.shape(), "{} and {}",
               core::to_string(input.shape()), core::to_string(update.shape()));
  const SquareSum squares = sum_of_squares(queue, update);
  if (!squares.finite) core::fail("the spectral power of the momentum is not finite");
  if (squares.sum == 0) return 0;
  const double factor = shape_factor(queue, scale, p, input, update, std::sqrt(squares.sum));
  if (factor != 1) core::for_each(queue, update.size(), Scale{update.data<float>(), factor});
  return factor;
}

}  // namespace muonp::optim
