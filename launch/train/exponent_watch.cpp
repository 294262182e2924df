#include "launch/train/exponent_watch.h"

#include <fmt/format.h>

#include "core/base/index.h"
#include "core/base/math.h"

namespace muonp::launch {

ExponentRecord ExponentWatch::record(const optim::Groups& groups, std::int64_t step,
                                     const std::vector<optim::ShownState>& shown) {
  ExponentRecord record;
  for (int g = 0; g < core::to_int(groups.groups().size()); ++g) {
    const optim::Group& group = groups.groups()[core::at(g)];
    add_common(group, step, record);
    std::vector<const optim::ShownState*> chosen;
    for (const optim::ShownState& state : shown)
      if (state.group == g && state.state == "p") chosen.push_back(&state);
    if (!chosen.empty()) add_chosen(group.config.name, chosen, record);
  }
  return record;
}

// A constant that is as it was written is said by the start-up table.
void ExponentWatch::add_common(const optim::Group& group, std::int64_t step, ExponentRecord& to) {
  const std::optional<optim::StepExponent> now = group.config.rule->step_exponent(step);
  if (!now) return;
  to.numbers.emplace_back("p." + group.config.name, now->p.value());
  const auto last = last_.find(group.config.name);
  const bool snapped = now->exact != now->p.value();
  if (last == last_.end() ? snapped : last->second != now->p)
    to.lines.push_back(fmt::format("{}: p = {}{}", group.config.name, to_string(now->p),
                                   snapped ? fmt::format(" ({:.4f}, snapped)", now->exact) : std::string()));
  last_.insert_or_assign(group.config.name, now->p);
}

void ExponentWatch::add_chosen(const std::string& group, const std::vector<const optim::ShownState*>& of,
                               ExponentRecord& to) {
  double sum = 0;
  std::map<double, int> matrices;  // by exponent
  std::vector<std::pair<std::string, double>> each;
  for (const optim::ShownState* state : of) {
    const double p = optim::spectral::nearest_exponent(state->value).value();  // a state is float32
    sum += p;
    ++matrices[p];
    each.emplace_back(fmt::format("p.{}.{}", group, state->matrix), p);
  }
  to.numbers.emplace_back("p." + group, sum / static_cast<double>(of.size()));
  to.numbers.insert(to.numbers.end(), each.begin(), each.end());
  std::string line;
  for (const auto& [value, count] : matrices)
    line += fmt::format("{}{} of {}", line.empty() ? "" : ", ", to_string(optim::spectral::nearest_exponent(value)), count);
  to.lines.push_back(fmt::format("{}: p = {} matrices", group, line));
}

}  // namespace muonp::launch
