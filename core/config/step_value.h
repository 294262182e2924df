// A hyper-parameter that may be a function of the step: one number, or numbers at steps with straight lines between them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

class StepValue {
 public:
  StepValue(double value = 0) : points_{{1, value}} {}

  // "0.95", or "0.85@1 0.95@300": 0.85 at the first step and 0.95 from step 300 on. Steps count from 1 and rise. Error that
  // says what is valid.
  static StepValue parse(std::string_view text);

  double at(std::int64_t step) const;
  double smallest() const;
  double largest() const;
  bool constant() const { return points_.size() == 1; }
  std::string text() const;  // parse() gives the same value back
  bool operator==(const StepValue&) const = default;

 private:
  struct Point {
    std::int64_t step;
    double value;
    bool operator==(const Point&) const = default;
  };
  std::vector<Point> points_;
};

// The words of a text that has values at steps, "A" or "A@1 B@300": each with its step, which rise from 1. What a value is,
// the caller knows. Error that says what is valid.
struct AtStep {
  std::int64_t step;
  std::string value;
};
std::vector<AtStep> values_at_steps(std::string_view text);

}  // namespace muonp::core
