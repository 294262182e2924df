#include "optim/spectral/polynomial.h"

#include <cstddef>

namespace muonp::optim::spectral {
namespace {

long double bisect(const std::vector<long double>& c, long double left, long double right) {
  const bool negative = evaluate(c, left) < 0;
  for (int i = 0; i < 70; ++i) {
    const long double middle = (left + right) / 2;
    ((evaluate(c, middle) < 0) == negative ? left : right) = middle;
  }
  return (left + right) / 2;
}

}  // namespace

long double evaluate(const std::vector<long double>& coefficients, long double x) {
  long double value = 0;
  for (std::size_t k = coefficients.size(); k-- > 0;) value = value * x + coefficients[k];
  return value;
}

// Horner's rule with x + shift in the place of x.
std::vector<double> shifted(const std::vector<double>& coefficients, double shift) {
  std::vector<double> d(coefficients.size(), 0.0);
  for (std::size_t i = coefficients.size(); i-- > 0;) {
    for (std::size_t j = d.size(); j-- > 1;) d[j] = d[j] * shift + d[j - 1];
    d[0] = d[0] * shift + coefficients[i];
  }
  return d;
}

// Between two neighbouring roots of the derivative (and the ends) a polynomial is monotone: at most one root
// there.
std::vector<long double> roots_between(const std::vector<long double>& coefficients, long double low, long double high) {
  if (coefficients.size() < 2) return {};
  std::vector<long double> derivative(coefficients.size() - 1);
  for (std::size_t k = 1; k < coefficients.size(); ++k) derivative[k - 1] = coefficients[k] * static_cast<long double>(k);
  std::vector<long double> ends = roots_between(derivative, low, high);
  ends.insert(ends.begin(), low);
  ends.push_back(high);
  std::vector<long double> found;
  for (std::size_t i = 0; i + 1 < ends.size(); ++i)
    if ((evaluate(coefficients, ends[i]) < 0) != (evaluate(coefficients, ends[i + 1]) < 0))
      found.push_back(bisect(coefficients, ends[i], ends[i + 1]));
  return found;
}

}  // namespace muonp::optim::spectral
