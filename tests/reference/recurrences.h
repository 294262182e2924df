// The recurrences behind U S^p V^T, in double precision and of one singular value: a method computes with matrices what
// these compute with x, since U and V pass through every product (docs/numerics.md). Nothing here is shared with the
// product.
#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <string>

namespace muonp::reference {

// Muon's five steps (Jordan 2024) of sigma / ||G||_F, towards 1.
inline double newton_schulz5(double x) {
  for (int k = 0; k < 5; ++k) x = 3.4445 * x - 4.7750 * std::pow(x, 3) + 2.0315 * std::pow(x, 5);
  return x;
}

// One step of the bivariate iterations of arXiv 2606.13867: y goes to x^p, from y = x; x = sigma / ||G||_F.
inline const std::map<std::string, std::function<double(double y, double x)>> kBivariate = {
    {"1/3", [](double y, double x) { return y - 0.66 * (std::pow(y, 3) - x); }},
    {"1/5", [](double y, double x) { return y - 0.2 * (std::pow(y, 5) - x); }},
    {"1/7", [](double y, double x) { return y - (std::pow(y, 7) - x) / 7; }},
    {"1/15", [](double y, double x) { return y - (std::pow(y, 15) - x) / 15; }},
    {"3/5", [](double y, double x) { return y - 0.2 * (std::pow(y, 5) - std::pow(x, 3)); }},
    {"13/15", [](double y, double x) { return y - (std::pow(y, 15) - std::pow(x, 13)) / 15; }},
    {"1/2", [](double y, double x) { return y - (std::pow(y, 4) - x * x) * (3 * x - 0.795918 * y); }}};
inline double bivariate(const std::string& p, double x) {
  double y = x;
  for (int k = 0; k < 6; ++k) y = kBivariate.at(p)(y, x);
  return y;
}

// One step of the coupled recurrence for p = (h - m)/h with w = w(y^2), which brings a = y^2 nearer to 1: while y goes to 1,
// z, which starts at y's first value, goes to its power p.
struct Coupled {
  double y, z;
  void step(double w, int h, int m) {
    y *= std::pow(w, h);
    z *= std::pow(w, m);
  }
};

}  // namespace muonp::reference
