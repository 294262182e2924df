// Muon^p (arXiv 2606.13867; Muon, Jordan 2024, at p = 0): W moves by U Sᵖ Vᵀ of its momentum. The momentum is on the pieces
// that each rank keeps; the spectral power is of whole matrices, on their owner (optim/rules/spectral_step.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "optim/rules/adaptive_exponent.h"
#include "optim/rules/momentum.h"
#include "optim/rules/rule.h"
#include "optim/rules/spectral_keys.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::optim {

// The factor on Z = U Sᵖ Vᵀ of an m × n matrix N (docs/optimizers.md derives and compares them). All but
// `aspect` (where p is not 0) and `none` give the same update for N and for c·N with any c > 0.
enum class ShapeScale : std::uint8_t {
  match_rms,  // 0.2·√(mn)/‖Z‖_F: root mean square 0.2 at every p, as AdamW's (arXiv 2502.16982)
  spectral,   // √max(1, m/n)/σ_max(N)ᵖ: the direction of the largest singular value moves by √max(1, m/n)
  rms1,       // √(mn)/‖Z‖_F: root mean square 1 (arXiv 2606.13867)
  schatten,   // (mean of σ^{1+p})^{−p/(1+p)}: min(m,n)^{p/(1+p)} times the unit Schatten-(1 + 1/p) ball; p ≥ 0
  aspect,     // √max(1, m/n) (Jordan 2024)
  none        // 1
};
// How the factors of a low-rank adapter B·A are moved (docs/optimizers.md).
inline constexpr std::string_view kLoraRules[] = {"b_only", "both", "whitened"};

inline constexpr std::string_view kShapeScales[] = {"match_rms", "spectral", "rms1", "schatten", "aspect", "none"};
ShapeScale parse_shape_scale(std::string_view name);  // Error lists the valid names
std::string_view name_of(ShapeScale scale);

inline constexpr std::string_view kAdaptive = "adaptive";

class Muonp final : public Rule, public SpectralKeys {
 public:
  static constexpr std::string_view kName = "muonp";
  core::StepValue momentum = 0.95;
  std::string momentum_form = "ema";
  bool nesterov = true;
  core::StepText p = "1/2";  // an exponent, a schedule of exponents, or kAdaptive: for each matrix one of the candidates
  std::vector<std::string> p_candidates = {"0", "1/4", "1/2", "3/4"};
  std::int64_t p_every = 50;
  double p_smoothing = 0.5, p_curvature = 1;
  std::string scale = "match_rms";
  std::string lora = "b_only";

  std::unique_ptr<Rule> clone() const override { return std::make_unique<Muonp>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2606.13867"; }
  std::string_view published_lr() const override { return "0.1 to 0.3 of the lr of the vectors"; }
  std::string text() const override;
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override;
  Needs needs() const override {
    return {.whole_matrices = true, .partner_gram = lora == kLoraRules[2], .lora_b_only = lora == kLoraRules[0]};
  }
  StepFacts applied(const StepFacts& facts, bool factor) const override;
  Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                      std::span<const core::Tensor> states) const override;
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;
  std::optional<StepExponent> step_exponent(std::int64_t step) const override;
  std::string_view shown_state(std::int64_t step) const override;

  bool adaptive() const { return p.constant() && p.values().front() == kAdaptive; }
  AdaptiveSettings adaptive_settings() const;  // Error for a candidate that is no exponent, and for none

 private:
  void describe_adaptive(core::Fields& fields);
  void check_exponents() const;
};

// With g = gradient_scale·gradient, or (1 − μ) times that for an exponential average:
//   M ← μM + g,  N = M, or g + μM with Nesterov
// The gradient piece is overwritten with N, the input of the spectral power, so that what is sent to the
// owner is never the momentum itself. float32, one size.
void muonp_momentum(core::Queue& queue, const Momentum& form, double gradient_scale, const core::Tensor& gradient,
                    const core::Tensor& momentum);

// The factor of Z = [rows, cols] of `input`, as if the matrix that moves were of `moved` shape; 0 for a zero Z. Errors as
// scale_update().
double update_factor(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& z,
                     const core::Shape& moved);

// update ← factor·Z in place, Z = [rows, cols] the spectral power of `input` with exponent p; the factor is
// returned. A zero Z stays zero (factor 0). Error if Z is not finite, or, for `schatten`, if ⟨input, Z⟩ is
// not positive.
double scale_update(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& update);
// The same of every matrix of [count, rows, cols]. Errors name the matrix. On a GPU all are taken together and their factors
// stay in its memory. `squares`: ‖Z‖_F² of each, known to be finite, as SpectralReport has them; if there are none, they are
// found and read here. The host waits for that and for the inner products of `schatten`, once, and for nothing else.
void scale_updates(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& update,
                   const core::Tensor& squares = {});
// Whether the factor is one that ranks can find of a matrix that they share: all but `spectral`, whose largest singular
// value takes the whole. And scale_update() of a part of a matrix of the shape `moved`. Collective.
bool can_share(ShapeScale scale);
void scale_share(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input, const core::Tensor& update,
                 const core::Shape& moved, spectral::Sharers& sharers);

}  // namespace muonp::optim
