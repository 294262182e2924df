#include "core/config/step_value.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/config/config_values.h"

namespace muonp::core {

namespace {

constexpr std::string_view kForms[] = {"", "switch", "linear", "cosine", "logistic"};  // in the order of Form

[[noreturn]] void fail_at(std::string_view text, std::string_view what) {
  fail(
      "'{}' is no value of the step: {}; valid are one value; values at steps that rise from 1, as 0.85@1 0.95@300, with "
      "switch, linear or cosine before them or not; logistic A B tau T width W, as logistic 0.85 0.95 tau 0.5 width 0.1",
      text, what);
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

std::string joined(std::string text, const std::string& word) { return text.empty() ? word : std::move(text) + " " + word; }

}  // namespace

void StepSchedule::set_run(std::int64_t steps) {
  run_ = std::max<std::int64_t>(1, steps);
  if (steps > 0 && form_ != Form::logistic && steps_.back() > steps)
    fail("a schedule longer than the run: it has a value at step {}, and the run has {} steps; valid are steps from 1 to {}",
         steps_.back(), steps, steps);
}

bool StepSchedule::continuous(Form plain) const {
  const Form form = form_ == Form::plain ? plain : form_;
  return !constant() && form != Form::switched;
}

StepSchedule::Place StepSchedule::place(std::int64_t step, Form plain) const {
  if (form_ == Form::logistic) {
    if (needs_run()) fail("a schedule relative to the run, whose length is not known (OptimizerConfig::for_run)");
    const double x = static_cast<double>(std::min(step, run_)) / static_cast<double>(run_);
    return {0, 1 / (1 + std::exp(-(x - tau_) / width_))};
  }
  const auto after = std::ranges::upper_bound(steps_, step);
  if (after == steps_.begin()) return {};
  const auto index = static_cast<std::size_t>(after - steps_.begin()) - 1;
  const Form form = form_ == Form::plain ? plain : form_;
  if (after == steps_.end() || form == Form::switched) return {index, 0};
  const double x = static_cast<double>(step - steps_[index]) / static_cast<double>(*after - steps_[index]);
  return {index, form == Form::cosine ? (1 - std::cos(std::numbers::pi * x)) / 2 : x};
}

std::vector<std::string> StepSchedule::read(std::string_view text) {
  std::vector<std::string_view> words = words_of(text);
  if (words.empty()) fail_at(text, "it is empty");
  const auto known = std::ranges::find(kForms, words.front());
  form_ = known == std::end(kForms) ? Form::plain : static_cast<Form>(known - std::begin(kForms));
  if (form_ != Form::plain) words.erase(words.begin());
  steps_.clear();
  std::vector<std::string> values;
  if (form_ == Form::logistic)
    read_logistic(text, words, values);
  else
    read_points(text, words, values);
  return values;
}

void StepSchedule::read_points(std::string_view text, const std::vector<std::string_view>& words,
                               std::vector<std::string>& values) {
  for (const std::string_view word : words) {
    const std::size_t mark = word.find('@');
    const bool alone = mark == std::string_view::npos;
    if (alone && (form_ != Form::plain || words.size() > 1)) fail_at(text, fmt::format("{} has no step", word));
    const auto [step, problem] = alone ? config::ParsedInteger{1, ""} : config::parse_integer(word.substr(mark + 1));
    if (!step) fail_at(text, problem);
    if (mark == 0) fail_at(text, fmt::format("{} has no value", word));
    if (steps_.empty() && *step != 1) fail_at(text, fmt::format("the first step is {}", *step));
    if (!steps_.empty() && *step <= steps_.back()) fail_at(text, fmt::format("step {} after {}", *step, steps_.back()));
    steps_.push_back(*step);
    values.emplace_back(word.substr(0, mark));
  }
  if (form_ != Form::plain && values.size() < 2)
    fail_at(text, fmt::format("{} needs values at two steps at least", kForms[at(form_)]));
}

void StepSchedule::read_logistic(std::string_view text, const std::vector<std::string_view>& words,
                                 std::vector<std::string>& values) {
  if (words.size() != 6 || words[2] != "tau" || words[4] != "width")
    fail_at(text, "of logistic there are two values, then tau and a number, then width and a number");
  values = {std::string(words[0]), std::string(words[1])};
  const auto number = [&](std::string_view word) {
    const auto [value, problem] = config::parse_real(word);
    if (!value) fail_at(text, problem);
    return *value;
  };
  tau_ = number(words[3]);
  width_ = number(words[5]);
  if (!(tau_ >= 0 && tau_ <= 1)) fail_at(text, fmt::format("tau is {}, a share of the run: 0 to 1", words[3]));
  if (!(width_ > 0)) fail_at(text, fmt::format("width is {}, a share of the run above 0", words[5]));
}

std::string StepSchedule::write(const std::vector<std::string>& values) const {
  if (constant()) return values.front();
  std::string text(kForms[at(form_)]);
  for (std::size_t i = 0; i < values.size(); ++i)
    text = joined(std::move(text), form_ == Form::logistic ? values[i] : fmt::format("{}@{}", values[i], steps_[i]));
  if (form_ == Form::logistic)
    text += fmt::format(" tau {} width {}", config::format_real(tau_), config::format_real(width_));
  return text;
}

StepValue StepValue::parse(std::string_view text) {
  StepValue result;
  result.values_.clear();
  for (const std::string& word : result.read(text)) {
    const auto parsed = config::parse_real(word);
    if (!parsed.value) fail_at(text, parsed.problem);
    result.values_.push_back(*parsed.value);
  }
  return result;
}

double StepValue::at(std::int64_t step) const {
  const Place here = place(step, Form::linear);
  const double from = values_[here.index];
  return here.share == 0 ? from : from + here.share * (values_[here.index + 1] - from);
}

double StepValue::smallest() const { return std::ranges::min(values_); }
double StepValue::largest() const { return std::ranges::max(values_); }

std::string StepValue::text() const {
  std::vector<std::string> words;
  for (const double value : values_) words.push_back(config::format_real(value));
  return write(words);
}

}  // namespace muonp::core
