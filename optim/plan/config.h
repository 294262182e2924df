// The `optimizer` section of the configuration: which parameters form a group, and the rule that moves each
// group. docs/optimizers.md gives the rules as equations, with the sources of the defaults.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config.h"
#include "optim/rules/adamw.h"
#include "optim/rules/muonp.h"
#include "optim/rules/sgd.h"
#include "optim/rules/split.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::optim {

enum class Rule : std::uint8_t { muonp, adamw, sgd };
inline constexpr std::string_view kRules[] = {"muonp", "adamw", "sgd"};  // by Rule
inline constexpr std::string_view kElementwiseRules[] = {"adamw", "sgd"};

// The place of `text` among `choices`. Error that begins with `what` where it is none of them, so that nothing is taken for
// something else.
std::size_t place_among(std::span<const std::string_view> choices, std::string_view text, std::string_view what);

// Named splits of fused matrices: `pattern` chooses parameters by name, never by shape.
struct SplitConfig {
  std::string name, pattern;
  std::string axis = "rows";  // rows | columns
  std::vector<std::string> parts;
  bool columns() const;  // Error where `axis` is neither
  void describe(core::Fields& fields);
};

// One group. Keys of the other rules may be present and are not read.
struct GroupConfig {
  std::string name;
  // Name patterns with * and ?, or kind:matrix, kind:embedding, kind:head, kind:vector.
  std::vector<std::string> select;
  std::string rule = "adamw";  // of kRules
  double lr = 3e-3;
  double weight_decay = 0;
  double momentum = 0.95;                                                                     // muonp, sgd
  std::string momentum_form = "ema";                                                          // muonp, sgd
  bool nesterov = true;                                                                       // muonp, sgd
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;                                               // adamw
  std::string p = "1/2", method = "coupled_minimax", dtype = "auto", scale = "match_rms";  // muonp
  double epsilon = 1e-3, tolerance = 0.01;
  std::vector<SplitConfig> splits;

  Rule rule_kind() const;  // Error where `rule` is none of kRules
  bool is_spectral() const { return rule_kind() == Rule::muonp; }  // else element by element
  bool ema() const;                // Error where `momentum_form` is neither
  AdamWParams adamw() const;
  SgdParams sgd() const;
  MuonpParams muonp() const;
  // Error for a p that is no valid exponent, and a dtype that the device cannot multiply.
  spectral::SpectralOptions spectral_options(core::DeviceKind device) const;
  bool reads(std::string_view key) const;              // whether the rule has a use for this key of the group
  std::string rule_text() const;                       // "muonp p=1/2", "adamw"
  // One name per float32 tensor of a parameter's size that the rule keeps between steps, beside the master
  // weights.
  std::vector<std::string_view> state_names() const;
};

// One step of a group whose rule goes element by element. `states`: one for each of state_names(). InternalError for
// another rule.
void elementwise_update(core::Queue& queue, const GroupConfig& group, double lr, std::int64_t step, double gradient_scale,
                        const core::Tensor& master, const core::Tensor& gradient, std::span<const core::Tensor> states);

struct OptimizerConfig {
  double clip = 1.0;
  GroupConfig matrices, others;
  std::vector<GroupConfig> groups;

  OptimizerConfig();
  void describe(core::Fields& fields);
  // What one field alone cannot tell: exponents and what a method can do, betas below 1, names, splits. Error
  // names the key by its path under `optimizer`.
  void validate() const;
};

}  // namespace muonp::optim
