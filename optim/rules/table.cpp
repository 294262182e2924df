// Every rule that a configuration can name.
#include <algorithm>

#include "core/base/error.h"
#include "optim/rules/adago.h"
#include "optim/rules/adamw.h"
#include "optim/rules/auon.h"
#include "optim/rules/beyond_muon.h"
#include "optim/rules/beyond_muon_rms.h"
#include "optim/rules/conda.h"
#include "optim/rules/dynmuon.h"
#include "optim/rules/freon.h"
#include "optim/rules/htmuon.h"
#include "optim/rules/lion.h"
#include "optim/rules/muon.h"
#include "optim/rules/muon_mvr.h"
#include "optim/rules/muonp.h"
#include "optim/rules/normuon.h"
#include "optim/rules/rule.h"
#include "optim/rules/schedule_free.h"
#include "optim/rules/sgd.h"
#include "optim/rules/soap.h"
#include "optim/rules/specmuon.h"
#include "optim/rules/trasmuon.h"

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
    {Muon::kName, make<Muon>},
    {BeyondMuon::kName, make<BeyondMuon>},
    {BeyondMuonRms::kName, make<BeyondMuonRms>},
    {HTMuon::kName, make<HTMuon>},
    {DynMuon::kName, make<DynMuon>},
    {Freon::kName, make<Freon>},
    {NorMuon::kName, make<NorMuon>},
    {AdaGO::kName, make<AdaGO>},
    {AuON::kName, make<AuON>},
    {Conda::kName, make<Conda>},
    {TrasMuon::kName, make<TrasMuon>},
    {SpecMuon::kName, make<SpecMuon>},
    {MuonMvr::kName, make<MuonMvr>},
    {AdamW::kName, make<AdamW>},
    {Lion::kName, make<Lion>},
    {ScheduleFree::kName, make<ScheduleFree>},
    {Soap::kName, make<Soap>},
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
