// Every rule that a configuration can name.
#include <algorithm>

#include "core/base/error.h"
#include "optim/rules/adamw.h"
#include "optim/rules/lion.h"
#include "optim/rules/muonp.h"
#include "optim/rules/rule.h"
#include "optim/rules/sgd.h"

namespace muonp::optim {

namespace {

struct RuleKind {
  std::string_view name;
  std::unique_ptr<Rule> (*make)();
};

template <class R>
std::unique_ptr<Rule> make() {
  return std::make_unique<R>();
}

constexpr RuleKind kRules[] = {
    {Muonp::kName, make<Muonp>},
    {AdamW::kName, make<AdamW>},
    {Lion::kName, make<Lion>},
    {Sgd::kName, make<Sgd>},
};

template <class Takes>
std::vector<std::string_view> names_where(const Takes& takes) {
  std::vector<std::string_view> names;
  for (const RuleKind& kind : kRules)
    if (takes(*kind.make())) names.push_back(kind.name);
  return names;
}

}  // namespace

AnyRule::AnyRule(std::string_view name) {
  const auto kind = std::ranges::find(kRules, name, &RuleKind::name);
  if (kind == std::end(kRules)) core::fail("the rule '{}' is not known; valid are {}", name, fmt::join(rule_names(), ", "));
  rule_ = kind->make();
}

std::vector<std::string_view> rule_names() {
  return names_where([](const Rule&) { return true; });
}

std::vector<std::string_view> elementwise_rule_names() {
  return names_where([](const Rule& rule) { return !rule.needs().whole_matrices; });
}

}  // namespace muonp::optim
