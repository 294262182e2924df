// The exponent p of a spectral power as a function of the step. Values that are written are exponents, exactly; what lies
// between two of them in a linear, cosine or logistic schedule is the nearest exponent of denominator at most 16.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/step_value.h"
#include "optim/spectral/exponent.h"

namespace muonp::optim {

class Exponents {
 public:
  explicit Exponents(core::StepText schedule);  // Error for a value that is no exponent

  double exact(std::int64_t step) const;           // before it is snapped
  spectral::Exponent at(std::int64_t step) const;  // Error for a schedule relative to a run that it was not told of
  std::vector<spectral::Exponent> all() const;     // that occur in the run, each once, by rising value
  std::string text() const;  // "1/2@1 0@500", or with how many exponents that is where values are snapped

 private:
  void add_between(std::int64_t first, std::int64_t last, std::vector<spectral::Exponent>& to) const;

  core::StepText schedule_;
  std::vector<spectral::Exponent> values_;
};

}  // namespace muonp::optim
