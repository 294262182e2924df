#include "optim/rules/exponents.h"

#include <algorithm>

#include "core/base/error.h"

namespace muonp::optim {

using spectral::Exponent;

Exponents::Exponents(core::StepText schedule) : schedule_(std::move(schedule)) {
  for (const std::string& value : schedule_.values()) values_.push_back(spectral::parse_exponent(value));
}

double Exponents::exact(std::int64_t step) const {
  const core::StepText::Place here = schedule_.place(step);
  const double from = values_[here.index].value();
  return here.share == 0 ? from : from + here.share * (values_[here.index + 1].value() - from);
}

Exponent Exponents::at(std::int64_t step) const {
  const core::StepText::Place here = schedule_.place(step);
  return here.share == 0 ? values_[here.index] : spectral::nearest_exponent(exact(step));
}

// Of steps between two written values: exponents rise or fall, so that equal ends have nothing else between them.
void Exponents::add_between(std::int64_t first, std::int64_t last, std::vector<Exponent>& to) const {
  const Exponent p = at(first), q = at(last);
  to.push_back(p);
  if (p == q) return;
  if (last - first > 1) {
    const std::int64_t middle = first + (last - first) / 2;
    add_between(first, middle, to);
    add_between(middle, last, to);
  }
  to.push_back(q);
}

std::vector<Exponent> Exponents::all() const {
  std::vector<Exponent> found = schedule_.needs_run() || !schedule_.continuous() ? values_ : std::vector<Exponent>();
  if (found.empty()) {
    const std::vector<std::int64_t> turns = schedule_.turns();
    for (std::size_t i = 0; i + 1 < turns.size(); ++i) add_between(turns[i], turns[i + 1], found);
  }
  std::ranges::sort(found, {}, &Exponent::value);
  found.erase(std::ranges::unique(found).begin(), found.end());
  return found;
}

std::string Exponents::text() const {
  if (schedule_.needs_run() || !schedule_.continuous()) return schedule_.text();
  return fmt::format("{}, {} exponents", schedule_.text(), all().size());
}

}  // namespace muonp::optim
