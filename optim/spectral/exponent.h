// The exponent p = (h − m)/h of U Sᵖ Vᵀ, exact: a rational in [−1/2, 1] with denominator at most 16.
#pragma once

#include <string>
#include <string_view>

namespace muonp::optim::spectral {

struct Exponent {
  int numerator = 0, denominator = 1;  // lowest terms, denominator ≥ 1
  int h() const { return denominator; }
  int m() const { return denominator - numerator; }
  double value() const { return static_cast<double>(numerator) / denominator; }
  bool operator==(const Exponent&) const = default;
};

// "1/3", "-1/4", "0", "1", or a decimal that is such a rational ("0.25"). Error names the nearest valid ones.
Exponent parse_exponent(std::string_view text);
std::string to_string(Exponent p);
// The nearest of them; of two at one distance (to 1e-12), that with the smaller denominator. `value` in [−1/2, 1].
Exponent nearest_exponent(double value);

}  // namespace muonp::optim::spectral
