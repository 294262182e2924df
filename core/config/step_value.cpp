#include "core/config/step_value.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/config/config_values.h"

namespace muonp::core {

namespace {

[[noreturn]] void fail_at(std::string_view text) {
  fail("'{}' is no value of the step: one value, or VALUE@STEP with steps that rise from 1, as in 0.85@1 0.95@300", text);
}

}  // namespace

std::vector<AtStep> values_at_steps(std::string_view text) {
  std::vector<AtStep> values;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    begin = end + 1;
    if (word.empty()) continue;
    const std::size_t mark = word.find('@');
    const bool alone = mark == std::string_view::npos;
    const auto step = alone ? config::ParsedInteger{1, ""} : config::parse_integer(word.substr(mark + 1));
    const bool first = values.empty();
    if (!step.value || (first ? *step.value != 1 : alone || *step.value <= values.back().step)) fail_at(text);
    if (!first && mark == 0) fail_at(text);
    values.push_back({*step.value, std::string(word.substr(0, mark))});
  }
  if (values.empty()) fail_at(text);
  return values;
}

StepValue StepValue::parse(std::string_view text) {
  StepValue result;
  result.points_.clear();
  for (const AtStep& at : values_at_steps(text)) {
    const auto parsed = config::parse_real(at.value);
    if (!parsed.value) fail("{}", parsed.problem);
    result.points_.push_back({at.step, *parsed.value});
  }
  return result;
}

double StepValue::at(std::int64_t step) const {
  const auto after = std::ranges::find_if(points_, [step](const Point& p) { return p.step > step; });
  if (after == points_.begin()) return after->value;
  const Point& before = *(after - 1);
  if (after == points_.end()) return before.value;
  const double share = static_cast<double>(step - before.step) / static_cast<double>(after->step - before.step);
  return before.value + share * (after->value - before.value);
}

double StepValue::smallest() const { return std::ranges::min(points_, {}, &Point::value).value; }
double StepValue::largest() const { return std::ranges::max(points_, {}, &Point::value).value; }

std::string StepValue::text() const {
  if (constant()) return config::format_real(points_.front().value);
  std::string text;
  for (const Point& p : points_)
    text += fmt::format("{}{}@{}", text.empty() ? "" : " ", config::format_real(p.value), p.step);
  return text;
}

}  // namespace muonp::core
