#include "optim/plan/groups.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/math.h"

namespace muonp::optim {

namespace {

constexpr std::string_view kKindPrefix = "kind:";
constexpr core::ParameterKind kKinds[] = {core::ParameterKind::matrix, core::ParameterKind::embedding,
                                          core::ParameterKind::head,   core::ParameterKind::vector,
                                          core::ParameterKind::lora_a, core::ParameterKind::lora_b};

void check_unique(const core::ParameterList& parameters) {
  std::set<std::string_view> names;
  for (const core::Parameter* p : parameters)
    if (!names.insert(p->name).second)
      core::fail("parameter {} is listed twice: names are unique, and a tied weight is one parameter, listed once", p->name);
}

core::ParameterKind parse_kind(std::string_view selector, const std::string& group) {
  const std::string_view word = selector.substr(kKindPrefix.size());
  for (const core::ParameterKind kind : kKinds)
    if (word == core::name_of(kind)) return kind;
  core::fail(
      "group {}: {} is no kind of parameter; valid: kind:matrix, kind:embedding, kind:head, kind:vector, kind:lora_a, "
      "kind:lora_b",
      group, selector);
}

// Factors of adapters are matrices too, of those that the rule takes as such.
bool is_of(const core::Parameter& p, core::ParameterKind kind, const Rule& rule) {
  if (p.kind == kind || kind != core::ParameterKind::matrix) return p.kind == kind;
  return p.kind == core::ParameterKind::lora_b || (p.kind == core::ParameterKind::lora_a && !rule.needs().lora_b_only);
}

std::string nearest_names(std::string_view pattern, const core::ParameterList& parameters) {
  std::vector<std::string> names;
  for (const core::Parameter* p : parameters) names.push_back(p->name);
  return core::nearest_to_pattern(pattern, names);
}

std::vector<int> matching(std::string_view pattern, const core::ParameterList& parameters) {
  std::vector<int> found;
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (core::matches_pattern(pattern, parameters[i]->name)) found.push_back(core::to_int(i));
  return found;
}

[[noreturn]] void fail_unmatched(const std::string& what, std::string_view pattern, const core::ParameterList& parameters) {
  core::fail("{}: pattern {} matches no parameter; the nearest are {}", what, pattern, nearest_names(pattern, parameters));
}

class Assigner {
 public:
  explicit Assigner(const core::ParameterList& parameters)
      : group_of(parameters.size(), -1), splits(parameters.size()), parameters_(parameters) {}

  std::vector<Group> groups;
  std::vector<int> group_of;  // −1: none yet
  std::vector<std::optional<Split>> splits;

  // `must_hold`: an empty selection is an error, whatever it was made of.
  void add(const GroupConfig& config, bool must_hold) {
    open(config);
    for (const std::string& selector : config.select) select(selector);
    if (must_hold && group_.parameters.empty())
      core::fail("group {} has no parameters: nothing that [{}] selects is left to it", config.name,
                 fmt::join(config.select, ", "));
    close();
  }

  void add_rest(const GroupConfig& config) {
    open(config);
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (group_of[i] < 0) take(core::to_int(i));
    close();
  }

 private:
  const core::ParameterList& parameters_;
  Group group_;  // the one being filled
  int index_ = 0;

  const core::Parameter& at(int i) const { return *parameters_[core::at(i)]; }

  void open(const GroupConfig& config) {
    group_ = Group{.config = config, .parameters = {}};
    index_ = core::to_int(groups.size());
  }

  void take(int i) {
    int& group = group_of[core::at(i)];
    if (group >= 0) return;
    group = index_;
    group_.parameters.push_back(i);
    group_.elements += at(i).size();
  }

  void select(const std::string& selector) {
    if (selector.starts_with(kKindPrefix)) {
      const core::ParameterKind kind = parse_kind(selector, group_.config.name);
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        if (is_of(*parameters_[i], kind, *group_.config.rule)) take(core::to_int(i));
      return;
    }
    const std::vector<int> found = matching(selector, parameters_);
    if (found.empty()) fail_unmatched("group " + group_.config.name, selector, parameters_);
    for (const int i : found) take(i);
    const auto mine = [this](int i) { return group_of[core::at(i)] == index_; };
    if (std::none_of(found.begin(), found.end(), mine)) {
      const int holder = group_of[core::at(found.front())];
      core::fail(
          "group {}: all that pattern {} matches belongs to an earlier group ({} to {}); put the narrower "
          "selection first",
          group_.config.name, selector, at(found.front()).name, groups[core::at(holder)].config.name);
    }
  }

  void split(const SplitConfig& config) {
    std::vector<int> found = matching(config.pattern, parameters_);
    const std::string what = fmt::format("group {}, split {}", group_.config.name, config.name);
    if (found.empty()) fail_unmatched(what, config.pattern, parameters_);
    std::erase_if(found, [this](int i) { return group_of[core::at(i)] != index_; });
    if (found.empty()) core::fail("{}: pattern {} matches no parameter of the group", what, config.pattern);
    for (const int i : found) {
      std::optional<Split>& slot = splits[core::at(i)];
      if (slot) core::fail("parameter {} is matched by two splits, {} and {}", at(i).name, slot->name, config.name);
      slot = config.split();
    }
  }

  void close() {
    std::sort(group_.parameters.begin(), group_.parameters.end());
    if (group_.parameters.empty()) return;
    for (const SplitConfig& config : group_.config.splits) split(config);
    if (group_.config.whole_matrices())
      for (const int i : group_.parameters) {
        const auto& split = splits[core::at(i)];
        matrix_batches(at(i).name, at(i).shape, split ? &*split : nullptr);
      }
    groups.push_back(std::move(group_));
  }
};

}  // namespace

Groups::Groups(const OptimizerConfig& config, const core::ParameterList& parameters) {
  check_unique(parameters);
  Assigner assigner(parameters);
  for (const GroupConfig& group : config.groups) assigner.add(group, true);
  assigner.add(config.matrices, false);
  assigner.add_rest(config.others);
  groups_ = std::move(assigner.groups);
  group_of_ = std::move(assigner.group_of);
  splits_ = std::move(assigner.splits);
}

Groups Groups::restricted_to(const std::vector<int>& parameters, const core::ParameterList& all) const {
  Groups result;
  for (const Group& g : groups_) result.groups_.push_back({g.config, {}, 0});
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto from = static_cast<std::size_t>(parameters[i]);
    Group& group = result.groups_[core::at(group_of_[from])];
    group.parameters.push_back(core::to_int(i));
    group.elements += all[from]->size();
    result.group_of_.push_back(group_of_[from]);
    result.splits_.push_back(splits_[from]);
  }
  return result;
}

const Split* Groups::split_of(int parameter) const {
  const auto& split = splits_[core::at(parameter)];
  return split ? &*split : nullptr;
}

std::vector<GroupRow> Groups::rows() const {
  std::vector<GroupRow> rows;
  for (const Group& g : groups_)
    rows.push_back({.group = g.config.name,
                    .rule = g.config.rule->text() + g.config.storage_text(),
                    .parameters = std::ssize(g.parameters),
                    .elements = g.elements,
                    .lr = g.config.lr.at(1)});
  return rows;
}

}  // namespace muonp::optim
