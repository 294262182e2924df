#include "optim/spectral/exponent.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "core/base/error.h"

namespace muonp::optim::spectral {
namespace {

constexpr int kMaxDenominator = 16;
constexpr double kLowest = -0.5, kHighest = 1.0;

std::optional<double> parse_decimal(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::int64_t> parse_whole(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (value == std::numeric_limits<std::int64_t>::min()) return std::nullopt;  // it has no absolute value
  return value;
}

std::vector<Exponent> all_exponents() {
  std::vector<Exponent> all;
  for (int d = 1; d <= kMaxDenominator; ++d)
    for (int n = -d; n <= d; ++n)
      if (std::gcd(n, d) == 1 && 2 * n >= -d) all.push_back({n, d});
  std::sort(all.begin(), all.end(), [](Exponent a, Exponent b) { return a.value() < b.value(); });
  return all;
}

std::string nearest_list(double value) {
  std::vector<Exponent> all = all_exponents();
  std::stable_sort(all.begin(), all.end(),
                   [value](Exponent a, Exponent b) { return std::abs(a.value() - value) < std::abs(b.value() - value); });
  return fmt::format("{}, {} and {}", to_string(all[0]), to_string(all[1]), to_string(all[2]));
}

[[noreturn]] void refuse(std::string_view text, double value) {
  core::fail(
      "p: {} is not a valid exponent; valid are rationals in [-1/2, 1] with denominator up to {}, "
      "such as 1/3 or 0.25; the nearest are {}",
      text, kMaxDenominator, nearest_list(value));
}

// Written digits of a decimal stand for a rational when they are it, rounded at the last digit written
// ("0.333" does not: it would pass for 1/3 by accident; "0.33333333" does).
bool stands_for(double value, Exponent p) { return std::abs(value - p.value()) <= 1e-7; }

}  // namespace

Exponent parse_exponent(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash != std::string_view::npos) {
    const auto numerator = parse_whole(text.substr(0, slash)), denominator = parse_whole(text.substr(slash + 1));
    if (!numerator || !denominator || *denominator <= 0)
      core::fail("p: \"{}\" is neither a fraction nor a number; write 1/2, -1/4, 0 or 0.25", text);
    const std::int64_t divisor = std::gcd(*numerator, *denominator);
    const std::int64_t n = *numerator / divisor, d = *denominator / divisor;
    const double value = static_cast<double>(n) / static_cast<double>(d);
    if (d > kMaxDenominator || value < kLowest || value > kHighest) refuse(text, value);
    return {static_cast<int>(n), static_cast<int>(d)};
  }
  const auto value = parse_decimal(text);
  if (!value) core::fail("p: \"{}\" is neither a fraction nor a number; write 1/2, -1/4, 0 or 0.25", text);
  for (Exponent p : all_exponents())
    if (stands_for(*value, p)) return p;
  refuse(text, *value);
}

Exponent nearest_exponent(double value) {
  constexpr double kTie = 1e-12;
  MUONP_ASSERT(value >= kLowest - kTie && value <= kHighest + kTie, "exponent {}", value);
  static const std::vector<Exponent> all = all_exponents();
  Exponent best = all.front();
  for (const Exponent p : all) {
    const double nearer = std::abs(best.value() - value) - std::abs(p.value() - value);
    if (nearer > kTie || (nearer >= -kTie && p.denominator < best.denominator)) best = p;
  }
  return best;
}

std::string to_string(Exponent p) {
  return p.denominator == 1 ? std::to_string(p.numerator) : fmt::format("{}/{}", p.numerator, p.denominator);
}

}  // namespace muonp::optim::spectral
