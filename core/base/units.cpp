#include "core/base/units.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>

namespace muonp::core {
namespace {

// Three significant digits; the caller has brought the value below its next unit.
std::string three_digits(double value) {
  const double size = std::fabs(value);
  if (size < 9.995) return fmt::format("{:.2f}", value);
  if (size < 99.95) return fmt::format("{:.1f}", value);
  return fmt::format("{:.0f}", value);
}

template <std::size_t N>
std::string scaled(double value, double base, double next, const std::array<const char*, N>& units) {
  std::size_t unit = 0;
  while (unit + 1 < N && std::fabs(value) >= next) {
    value /= base;
    ++unit;
  }
  return fmt::format("{} {}", three_digits(value), units[unit]);
}

}  // namespace

std::string format_bytes(std::int64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  constexpr std::array<const char*, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  return scaled(static_cast<double>(bytes) / 1024, 1024, 1023.5, kUnits);
}

std::string format_count(double count) {
  if (!std::isfinite(count)) return fmt::format("{}", count);
  if (std::fabs(count) < 999.5) return count == std::floor(count) ? fmt::format("{:.0f}", count) : three_digits(count);
  constexpr std::array<const char*, 4> kUnits = {"k", "M", "B", "T"};
  return scaled(count / 1000, 1000, 999.5, kUnits);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "unknown";
  if (seconds < 59.95) {
    constexpr std::array<const char*, 3> kUnits = {"us", "ms", "s"};
    return scaled(seconds * 1e6, 1000, 999.5, kUnits);
  }
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  const std::int64_t minutes = (whole + 30) / 60;
  return fmt::format("{} h {:02} min", minutes / 60, minutes % 60);
}

std::string format_rate(double per_second, const char* unit) {
  return fmt::format("{} {}/s", format_count(per_second), unit);
}

std::string format_percent(double fraction) { return fmt::format("{:.1f} %", fraction * 100); }

double plain_nan(double value) { return std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value; }

}  // namespace muonp::core
