#include "optim/plan/config.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "core/base/error.h"

namespace muonp::optim {

namespace {

constexpr std::string_view kAxes[] = {"rows", "columns"};

void describe_select(GroupConfig& g, core::Fields& f) {
  f.text_list(
      "select", g.select,
      "name patterns with * and ?, or kind:matrix, kind:embedding, kind:head, kind:vector, kind:lora_a, kind:lora_b");
}

void describe_splits(std::vector<SplitConfig>& splits, core::Fields& f) {
  f.section_list(
      "splits", splits.size(), [&splits](std::size_t n) { splits.resize(n); },
      [&splits](std::size_t i, core::Fields& inner) { splits[i].describe(inner); },
      "fused matrices whose parts are matrices of their own");
}

// The keys of one rule in a group; `splits` where it takes whole matrices.
void describe_keys(Rule& rule, std::vector<SplitConfig>& splits, core::Fields& f) {
  rule.describe(f);
  if (rule.needs().whole_matrices) describe_splits(splits, f);
}

void check_splits(const std::string& path, const std::vector<SplitConfig>& splits) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < splits.size(); ++i) {
    const SplitConfig& s = splits[i];
    const std::string where = fmt::format("{}.splits[{}]", path, i);
    if (s.name.empty()) core::fail("{}.name is empty: every split needs a name", where);
    if (s.pattern.empty()) core::fail("{}.pattern is empty: it chooses the fused matrices by name", where);
    if (s.heads > 0 && !s.parts.empty()) core::fail("{}: heads is {}, and parts has names: one of the two", where, s.heads);
    if (s.heads == 1) core::fail("{}.heads is 1: a split has at least two parts", where);
    if (s.heads == 0 && s.parts.size() < 2)
      core::fail("{}.parts has {} entry: a split has at least two parts", where, s.parts.size());
    if (!s.sizes.empty() && s.sizes.size() != s.parts.size())
      core::fail("{}.sizes has {} numbers for {} parts", where, s.sizes.size(), s.parts.size());
    try {
      s.split();
    } catch (const core::Error& error) {
      core::fail("{}: {}", where, error.what());
    }
    if (!names.insert(s.name).second) core::fail("{}.name {} is used twice", where, s.name);
    if (std::set<std::string>(s.parts.begin(), s.parts.end()).size() != s.parts.size())
      core::fail("{}.parts names a part twice: [{}]", where, fmt::join(s.parts, ", "));
  }
}

}  // namespace

void SplitConfig::describe(core::Fields& f) {
  f.text("name", name, "what the split is called in messages and tables", core::Presence::required);
  f.text("pattern", pattern, "names of the fused parameters, with * and ?", core::Presence::required);
  f.choice("axis", axis, kAxes, "the parts lie one after the other along the rows or the columns");
  f.text_list("parts", parts, "names of the parts, in order");
  f.text_list("sizes", sizes, "rows or columns of each part; empty: all have as many");
  f.integer("heads", heads, {.min = 0, .max = 1 << 20}, "in the place of parts: so many heads of one size, each a matrix");
}

std::size_t place_among(std::span<const std::string_view> choices, std::string_view text, std::string_view what) {
  const auto found = std::ranges::find(choices, text);
  if (found == choices.end()) core::fail("{}: '{}' is not known; valid are {}", what, text, fmt::join(choices, ", "));
  return static_cast<std::size_t>(found - choices.begin());
}

Split SplitConfig::split() const {
  Split s{.name = name,
          .columns = place_among(kAxes, axis, fmt::format("split {}, axis", name)) == 1,
          .parts = parts,
          .sizes = {}};
  for (std::int64_t i = 0; i < heads; ++i) s.parts.push_back(fmt::format("head {}", i));
  for (const std::string& text : sizes) {
    std::int64_t size = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (error != std::errc() || end != text.data() + text.size() || size < 1)
      core::fail("split {}, sizes: '{}' is no number of {}; valid are whole numbers from 1", name, text, axis);
    s.sizes.push_back(size);
  }
  return s;
}

void GroupConfig::describe_rule(core::Fields& f, std::span<const std::string_view> rules) {
  std::string chosen(rule->name());
  f.choice("rule", chosen, rules, "update rule of the group");
  if (chosen != rule->name()) rule = AnyRule(chosen);
  f.step_value("lr", lr, {.min = 0}, "learning rate at a schedule factor of 1");
  f.step_value("weight_decay", weight_decay, {.min = 0}, "decoupled decay: W <- (1 - lr weight_decay) W - lr update");
  f.choice("state_dtype", state_dtype, kStateDtypes,
           "what momentum and second moments are kept as between steps (docs/optimizers.md)");
  const auto rounding = [](core::Fields& fields, std::string& value) {
    fields.choice("state_rounding", value, kStateRoundings, "how they are rounded (docs/optimizers.md)");
  };
  if (state_dtype != kStateDtypes[0])
    rounding(f, state_rounding);
  else
    f.others_if("state_dtype: bfloat16 or int8", [&](core::Fields& inner) {
      std::string value = GroupConfig().state_rounding;
      rounding(inner, value);
    });
  describe_keys(*rule, splits, f);
  for (const std::string_view other : rules)
    if (other != rule->name())
      f.others_if(fmt::format("rule: {}", other), [other](core::Fields& inner) {
        AnyRule with_defaults(other);
        std::vector<SplitConfig> none;
        describe_keys(*with_defaults, none, inner);
      });
}

std::vector<Storage> GroupConfig::storages() const {
  const Storage common{static_cast<StateDtype>(place_among(kStateDtypes, state_dtype, fmt::format("{}.state_dtype", name))),
                       Content::exact,
                       place_among(kStateRoundings, state_rounding, fmt::format("{}.state_rounding", name)) == 0};
  std::vector<Storage> storages;
  for (const StateSpec& state : rule->states_of(Home::shard))
    storages.push_back({common.dtype, state.content, common.stochastic});
  return storages;
}

std::string GroupConfig::storage_text() const {
  return std::ranges::any_of(storages(), &Storage::narrow) ? fmt::format(", states {} {}", state_dtype, state_rounding) : "";
}

void GroupConfig::require_storable(const std::string& path) const {
  const std::size_t dtype = place_among(kStateDtypes, state_dtype, path + ".state_dtype");
  place_among(kStateRoundings, state_rounding, path + ".state_rounding");
  if (dtype > 0 && storage_text().empty())
    core::fail(
        "{}.state_dtype is {}, and {} keeps no momentum or second moment on the ranks' pieces of a parameter: what lives "
        "with "
        "owners, and weights, are float32; valid is float32",
        path, state_dtype, rule->text());
}

void GroupConfig::validate(const std::string& path) const {
  rule->validate(path);
  require_storable(path);
  check_splits(path, splits);
}

StepFacts GroupConfig::facts(std::int64_t step, double lr_factor, double gradient_scale, double gradient_norm,
                             double loss) const {
  return {.step = step,
          .lr = lr.at(step) * lr_factor,
          .weight_decay = weight_decay.at(step),
          .gradient_scale = gradient_scale,
          .gradient_norm = gradient_norm,
          .loss = loss};
}

OptimizerConfig::OptimizerConfig() {
  matrices.name = "matrices";
  matrices.select = {"kind:matrix"};
  matrices.rule = "muonp";
  matrices.weight_decay = 0.1;
  others.name = "others";
}

void OptimizerConfig::describe(core::Fields& f) {
  f.real("clip", clip, {.min = 0}, "largest norm of the whole gradient, applied before momentum; 0 is off");
  f.section(
      "matrices",
      [this](core::Fields& inner) {
        describe_select(matrices, inner);
        matrices.describe_rule(inner, rule_names());
      },
      "weight matrices");
  f.section(
      "others", [this](core::Fields& inner) { others.describe_rule(inner, elementwise_rule_names()); },
      "every parameter that no other group selects: embeddings, heads, biases, norms");
  f.section_list(
      "groups", groups.size(), [this](std::size_t n) { groups.resize(n); },
      [this](std::size_t i, core::Fields& inner) {
        inner.text("name", groups[i].name, "name of the group", core::Presence::required);
        describe_select(groups[i], inner);
        groups[i].describe_rule(inner, rule_names());
      },
      "further groups; each parameter belongs to the first that selects it, then to matrices or others");
}

void OptimizerConfig::validate() const {
  if (!(clip >= 0)) core::fail("optimizer.clip is {}: it must be at least 0; 0 is off", clip);
  matrices.validate("optimizer.matrices");
  others.validate("optimizer.others");
  if (others.whole_matrices())
    core::fail("optimizer.others.rule is {}, which moves matrices only; valid are {}", others.rule->name(),
               fmt::join(elementwise_rule_names(), ", "));
  std::set<std::string> names = {"matrices", "others"};
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::string path = fmt::format("optimizer.groups[{}]", i);
    if (groups[i].name.empty()) core::fail("{}.name is empty: every group needs a name", path);
    if (!names.insert(groups[i].name).second) core::fail("{}.name {} is used twice", path, groups[i].name);
    if (groups[i].select.empty()) core::fail("{}.select is empty: group {} would have no parameters", path, groups[i].name);
    groups[i].validate(path);
  }
}

OptimizerConfig OptimizerConfig::for_run(std::int64_t steps) const {
  OptimizerConfig config = *this;
  core::set_run_length([&](core::Fields& f) { config.describe(f); }, steps, "optimizer.");
  return config;
}

void OptimizerConfig::require_run() const {
  OptimizerConfig copy = *this;  // a description may change what it describes
  core::require_run_length([&](core::Fields& f) { copy.describe(f); }, "optimizer.");
}

}  // namespace muonp::optim
