// The `optimizer` section of the configuration: which parameters form a group, and the rule that moves each
// group. docs/optimizers.md gives the rules as equations, with the sources of the defaults.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config.h"
#include "optim/rules/rule.h"
#include "optim/rules/split.h"

namespace muonp::optim {

// The place of `text` among `choices`. Error that begins with `what` where it is none of them, so that nothing is taken for
// something else.
std::size_t place_among(std::span<const std::string_view> choices, std::string_view text, std::string_view what);

// Named splits of fused matrices: `pattern` chooses parameters by name, never by shape.
struct SplitConfig {
  std::string name, pattern;
  std::string axis = "rows";  // rows | columns
  std::vector<std::string> parts = {},
                           sizes = {};  // names; rows or columns of each, as numbers: none where all are of one size
  std::int64_t heads = 0;               // in the place of parts: so many of one size
  Split split() const;                  // Error where `axis` is neither, or a size is no number
  void describe(core::Fields& fields);
};

// One group. Beside its own keys it has those that its rule describes.
struct GroupConfig {
  std::string name;
  // Name patterns with * and ?, or kind:matrix, kind:embedding, kind:head, kind:vector, kind:lora_a, kind:lora_b.
  std::vector<std::string> select;
  AnyRule rule = "adamw";
  core::StepValue lr = 3e-3;
  core::StepValue weight_decay = 0;
  std::string state_dtype = "float32";        // one of kStateDtypes
  std::string state_rounding = "stochastic";  // one of kStateRoundings
  std::vector<SplitConfig> splits;            // rules that need whole matrices

  // `rules`: those that the group may choose from. Where another is read, its keys start from their defaults.
  void describe_rule(core::Fields& fields, std::span<const std::string_view> rules);
  void validate(const std::string& path) const;
  bool whole_matrices() const { return rule->needs().whole_matrices; }
  // How the rule's states with Home::shard are kept, in their order. Error for a dtype or rounding that is not known.
  std::vector<Storage> storages() const;
  // Error that begins with the path of the group where fewer bits are asked for than its rule can do with.
  void require_storable(const std::string& path) const;
  std::string storage_text() const;  // "", or ", states int8 stochastic"
  // Of the parameter with this norm; clip and schedule are in the other two factors.
  StepFacts facts(std::int64_t step, double lr_factor, double gradient_scale, double gradient_norm, double loss) const;
};

struct OptimizerConfig {
  double clip = 1.0;
  GroupConfig matrices, others;
  std::vector<GroupConfig> groups;

  OptimizerConfig();
  void describe(core::Fields& fields);
  // What one field alone cannot tell: exponents and what a method can do, betas below 1, names, splits. Error
  // names the key by its path under `optimizer`.
  void validate() const;

  // The same for a run of so many steps, as schedules that are relative to it need. Error that names each key whose values
  // go on after the run.
  OptimizerConfig for_run(std::int64_t steps) const;
  // Error that names each key that is relative to the run where for_run() was not called.
  void require_run() const;
};

}  // namespace muonp::optim
