#include "optim/plan/groups.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/math.h"

namespace muonp::optim {

bool matches_pattern(std::string_view pattern, std::string_view text) {
  // On a mismatch, the last * takes one more character; earlier ones never need to.
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

namespace {

constexpr std::string_view kKindPrefix = "kind:";
constexpr core::ParameterKind kKinds[] = {core::ParameterKind::matrix, core::ParameterKind::embedding,
                                          core::ParameterKind::head, core::ParameterKind::vector};
constexpr std::size_t kNamesShown = 3;

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
  core::fail("group {}: {} is no kind of parameter; valid: kind:matrix, kind:embedding, kind:head, kind:vector", group,
             selector);
}

// Edits that make the text match the pattern, where * takes any run for nothing.
int pattern_distance(std::string_view pattern, std::string_view text) {
  std::vector<int> row(text.size() + 1);
  for (std::size_t j = 0; j <= text.size(); ++j) row[j] = core::to_int(j);
  for (const char c : pattern) {
    int diagonal = row[0];
    row[0] += c != '*';
    for (std::size_t j = 1; j <= text.size(); ++j) {
      const int above = row[j], replaced = diagonal + (c != '?' && c != text[j - 1]);
      row[j] = c == '*' ? std::min(above, row[j - 1]) : std::min({replaced, above + 1, row[j - 1] + 1});
      diagonal = above;
    }
  }
  return row.back();
}

std::string nearest_names(std::string_view pattern, const core::ParameterList& parameters) {
  std::vector<std::pair<int, std::string>> names;
  for (const core::Parameter* p : parameters) names.emplace_back(pattern_distance(pattern, p->name), p->name);
  std::stable_sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string text;
  for (std::size_t i = 0; i < std::min(kNamesShown, names.size()); ++i) text += (i == 0 ? "" : ", ") + names[i].second;
  return text;
}

std::vector<int> matching(std::string_view pattern, const core::ParameterList& parameters) {
  std::vector<int> found;
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (matches_pattern(pattern, parameters[i]->name)) found.push_back(core::to_int(i));
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
        if (parameters_[i]->kind == kind) take(core::to_int(i));
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
      slot = Split{.name = config.name, .columns = config.columns(), .parts = config.parts};
    }
  }

  void close() {
    std::sort(group_.parameters.begin(), group_.parameters.end());
    if (group_.parameters.empty()) return;
    for (const SplitConfig& config : group_.config.splits) split(config);
    if (group_.config.whole_matrices())
      for (const int i : group_.parameters) {
        const auto& split = splits[core::at(i)];
        matrix_batch(at(i).name, at(i).shape, split ? &*split : nullptr);
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
                    .rule = g.config.rule->text(),
                    .parameters = std::ssize(g.parameters),
                    .elements = g.elements,
                    .lr = g.config.lr.at(1)});
  return rows;
}

}  // namespace muonp::optim
