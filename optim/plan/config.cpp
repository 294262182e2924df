#include "optim/plan/config.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"

namespace muonp::optim {

namespace {

constexpr std::string_view kMomentumForms[] = {"ema", "heavy_ball"};
constexpr std::string_view kAxes[] = {"rows", "columns"};

void describe_muonp(GroupConfig& g, core::Fields& f) {
  f.text("p", g.p, "muonp: exponent of U S^p V^T, a fraction in [-1/2, 1]: 0 is Muon, 1 is momentum SGD");
  f.choice("method", g.method, spectral::kMethods, "muonp: recurrence that computes U S^p V^T");
  f.real("epsilon", g.epsilon, {.min = 1e-6, .max = 0.5},
         "muonp: singular values above this fraction of the largest are raised to p within the tolerance");
  f.real("tolerance", g.tolerance, {.min = 1e-6, .max = 0.5},
         "muonp: relative error of sigma^p to design for");
  f.choice("dtype", g.dtype, spectral::kStorages,
           "muonp: storage of the iterates; auto is float32 on a CPU and float16 on a GPU");
  f.choice("scale", g.scale, kShapeScales, "muonp: size of the update (docs/optimizers.md)");
  f.section_list(
      "splits", g.splits.size(), [&g](std::size_t n) { g.splits.resize(n); },
      [&g](std::size_t i, core::Fields& inner) { g.splits[i].describe(inner); },
      "muonp: fused matrices whose parts are matrices of their own");
}

// `rules`: those the group may choose from.
void describe_rule(GroupConfig& g, core::Fields& f, std::span<const std::string_view> rules) {
  f.choice("rule", g.rule, rules, "update rule of the group");
  f.real("lr", g.lr, {.min = 0}, "learning rate at a schedule factor of 1");
  f.real("weight_decay", g.weight_decay, {.min = 0},
         "decoupled decay: W <- (1 - lr weight_decay) W - lr update");
  f.real("momentum", g.momentum, {.min = 0, .max = 1}, "muonp, sgd: momentum factor, below 1");
  f.choice("momentum_form", g.momentum_form, kMomentumForms,
           "muonp, sgd: M <- mu M + (1 - mu) G (ema) or M <- mu M + G (heavy_ball)");
  f.boolean("nesterov", g.nesterov, "muonp, sgd: look one step of momentum ahead");
  f.real("beta1", g.beta1, {.min = 0, .max = 1}, "adamw: decay of the mean of gradients, below 1");
  f.real("beta2", g.beta2, {.min = 0, .max = 1}, "adamw: decay of the mean of squared gradients, below 1");
  f.real("eps", g.eps, {.min = 0}, "adamw: added to the root of the mean of squares");
  if (rules.size() == std::size(kRules)) describe_muonp(g, f);
}

void describe_select(GroupConfig& g, core::Fields& f) {
  f.text_list("select", g.select,
              "name patterns with * and ?, or kind:matrix, kind:embedding, kind:head, kind:vector");
}

void check_below_one(const std::string& path, std::string_view key, double value) {
  if (!(value >= 0 && value < 1))
    core::fail("{}.{} is {}: it must be at least 0 and below 1", path, key, value);
}

void check_splits(const std::string& path, const std::vector<SplitConfig>& splits) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < splits.size(); ++i) {
    const SplitConfig& s = splits[i];
    const std::string where = fmt::format("{}.splits[{}]", path, i);
    if (s.name.empty()) core::fail("{}.name is empty: every split needs a name", where);
    if (s.pattern.empty()) core::fail("{}.pattern is empty: it chooses the fused matrices by name", where);
    if (s.parts.size() < 2)
      core::fail("{}.parts has {} entry: a split has at least two parts", where, s.parts.size());
    if (!names.insert(s.name).second) core::fail("{}.name {} is used twice", where, s.name);
    if (std::set<std::string>(s.parts.begin(), s.parts.end()).size() != s.parts.size())
      core::fail("{}.parts names a part twice: [{}]", where, fmt::join(s.parts, ", "));
  }
}

void validate_muonp(const GroupConfig& g, const std::string& path) {
  check_splits(path, g.splits);
  if (!g.is_spectral()) return;
  try {
    const spectral::SpectralOptions options = g.spectral_options(core::DeviceKind::cuda);  // knows every dtype
    spectral::make_spectral_power(options);
    if (options.p.value() < 0 && g.scale == "schatten")
      core::fail(
          "scale schatten needs p >= 0 (p is {}): below 0 there is no Schatten-(1 + 1/p) norm; choose one of "
          "match_rms, spectral, rms1, none",
          g.p);
  } catch (const core::Error& e) {
    core::fail("{}: {}", path, e.what());
  }
}

void validate_group(const GroupConfig& g, const std::string& path) {
  check_below_one(path, "momentum", g.momentum);
  check_below_one(path, "beta1", g.beta1);
  check_below_one(path, "beta2", g.beta2);
  validate_muonp(g, path);
}

}  // namespace

void SplitConfig::describe(core::Fields& f) {
  f.text("name", name, "what the split is called in messages and tables", core::Presence::required);
  f.text("pattern", pattern, "names of the fused parameters, with * and ?", core::Presence::required);
  f.choice("axis", axis, kAxes,
           "the parts lie one after the other along the rows or the columns, all of one size");
  f.text_list("parts", parts, "names of the parts, in order");
}

std::size_t place_among(std::span<const std::string_view> choices, std::string_view text, std::string_view what) {
  const auto found = std::ranges::find(choices, text);
  if (found == choices.end()) core::fail("{}: '{}' is not known; valid are {}", what, text, fmt::join(choices, ", "));
  return static_cast<std::size_t>(found - choices.begin());
}

bool SplitConfig::columns() const { return place_among(kAxes, axis, fmt::format("split {}, axis", name)) == 1; }

Rule GroupConfig::rule_kind() const {
  return static_cast<Rule>(place_among(kRules, rule, fmt::format("group {}, rule", name)));
}

bool GroupConfig::ema() const {
  return place_among(kMomentumForms, momentum_form, fmt::format("group {}, momentum_form", name)) == 0;
}

AdamWParams GroupConfig::adamw() const {
  return {.beta1 = beta1, .beta2 = beta2, .eps = eps, .weight_decay = weight_decay};
}

SgdParams GroupConfig::sgd() const {
  return {.momentum = momentum,
          .ema = ema(),
          .nesterov = nesterov,
          .weight_decay = weight_decay};
}

MuonpParams GroupConfig::muonp() const {
  return {.momentum = momentum,
          .ema = ema(),
          .nesterov = nesterov,
          .weight_decay = weight_decay,
          .scale = parse_shape_scale(scale)};
}

spectral::SpectralOptions GroupConfig::spectral_options(core::DeviceKind device) const {
  return {.method = method,
          .p = spectral::parse_exponent(p),
          .epsilon = epsilon,
          .tolerance = tolerance,
          .dtype = spectral::parse_storage(dtype, method, device)};
}

std::string GroupConfig::rule_text() const { return is_spectral() ? fmt::format("muonp p={}", p) : rule; }

bool GroupConfig::reads(std::string_view key) const {
  constexpr std::string_view kOfMuonp[] = {"p", "method", "epsilon", "tolerance", "dtype", "scale", "splits"},
                             kOfMomentum[] = {"momentum", "momentum_form", "nesterov"},
                             kOfAdamw[] = {"beta1", "beta2", "eps"};
  if (std::ranges::find(kOfMuonp, key) != std::end(kOfMuonp)) return rule_kind() == Rule::muonp;
  if (std::ranges::find(kOfMomentum, key) != std::end(kOfMomentum)) return rule_kind() != Rule::adamw;
  if (std::ranges::find(kOfAdamw, key) != std::end(kOfAdamw)) return rule_kind() == Rule::adamw;
  return true;
}

std::vector<std::string_view> GroupConfig::state_names() const {
  switch (rule_kind()) {
    case Rule::muonp: return {"momentum"};
    case Rule::adamw: return {"m", "v"};
    case Rule::sgd: return momentum == 0 ? std::vector<std::string_view>() : std::vector<std::string_view>{"momentum"};
  }
  throw core::InternalError("a rule without states");
}

void elementwise_update(core::Queue& queue, const GroupConfig& group, double lr, std::int64_t step, double gradient_scale,
                        const core::Tensor& master, const core::Tensor& gradient, std::span<const core::Tensor> states) {
  MUONP_ASSERT(states.size() == group.state_names().size(), "{} states of {}", states.size(), group.rule);
  switch (group.rule_kind()) {
    case Rule::muonp: break;
    case Rule::adamw:
      return adamw_update(queue, group.adamw(), lr, step, gradient_scale, master, gradient, states[0], states[1]);
    case Rule::sgd:
      return sgd_update(queue, group.sgd(), lr, gradient_scale, master, gradient,
                        states.empty() ? core::Tensor() : states[0]);
  }
  throw core::InternalError(fmt::format("{} does not go element by element", group.rule));
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
        describe_rule(matrices, inner, kRules);
      },
      "weight matrices");
  f.section(
      "others", [this](core::Fields& inner) { describe_rule(others, inner, kElementwiseRules); },
      "every parameter that no other group selects: embeddings, heads, biases, norms");
  f.section_list(
      "groups", groups.size(), [this](std::size_t n) { groups.resize(n); },
      [this](std::size_t i, core::Fields& inner) {
        inner.text("name", groups[i].name, "name of the group", core::Presence::required);
        describe_select(groups[i], inner);
        describe_rule(groups[i], inner, kRules);
      },
      "further groups; each parameter belongs to the first that selects it, then to matrices or others");
}

void OptimizerConfig::validate() const {
  if (!(clip >= 0)) core::fail("optimizer.clip is {}: it must be at least 0; 0 is off", clip);
  validate_group(matrices, "optimizer.matrices");
  validate_group(others, "optimizer.others");
  if (others.is_spectral()) core::fail("optimizer.others.rule is muonp: it must be adamw or sgd");
  std::set<std::string> names = {"matrices", "others"};
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::string path = fmt::format("optimizer.groups[{}]", i);
    if (groups[i].name.empty()) core::fail("{}.name is empty: every group needs a name", path);
    if (!names.insert(groups[i].name).second) core::fail("{}.name {} is used twice", path, groups[i].name);
    if (groups[i].select.empty())
      core::fail("{}.select is empty: group {} would have no parameters", path, groups[i].name);
    validate_group(groups[i], path);
  }
}

}  // namespace muonp::optim
