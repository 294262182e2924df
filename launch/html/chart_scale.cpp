#include "launch/html/chart_scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "launch/report/svg_plot.h"

namespace muonp::launch {
namespace {

constexpr double kUsual = 0.98;    // the share of points that is always within the scale
constexpr double kFarAbove = 3.0;  // a scale that would be longer than this many times what they need ends before

// The upper end: the highest point, or, where few points are far above, a little above the others.
double upper_end(std::vector<SeriesPoint>& points, double low) {
  const auto nth = points.begin() + static_cast<std::ptrdiff_t>(kUsual * static_cast<double>(points.size() - 1));
  const double highest = std::ranges::max(points, {}, &SeriesPoint::y).y;
  std::ranges::nth_element(points, nth, {}, &SeriesPoint::y);
  const double usual = nth->y + 0.15 * (nth->y - low);
  return usual > low && highest - low > kFarAbove * (usual - low) ? usual : highest;
}

// Powers of ten as coordinates, with 2 and 5 times them where there are few.
std::vector<double> decades(double low, double high) {
  std::vector<double> ticks;
  const double every = std::max(1.0, std::ceil((high - low) / 6));
  for (double power = std::floor(low); power <= std::ceil(high); ++power)
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double at = power + std::log10(factor);
      const bool wanted = factor == 1 ? std::fmod(std::fabs(power), every) == 0 : high - low < 1.5;
      if (wanted && at >= low && at <= high) ticks.push_back(at);
    }
  return ticks;
}

}  // namespace

std::vector<SeriesPoint> drawn_points(const Chart& chart) {
  std::vector<SeriesPoint> points;
  for (const ChartCurve& curve : chart.curves)
    for (const SeriesPoint& p : curve.points)
      if (std::isfinite(p.y) && (p.y > 0 || chart.scale != Chart::Scale::logarithmic)) points.push_back(p);
  return points;
}

ChartScale::ChartScale(const Chart& chart) : logarithmic_(chart.scale == Chart::Scale::logarithmic), height_(chart.height) {
  std::vector<SeriesPoint> points = drawn_points(chart);
  MUONP_ASSERT(!points.empty(), "chart {}", chart.id);
  for (SeriesPoint& p : points) p.y = coordinate(p.y);
  const SeriesPoint highest = std::ranges::max(points, {}, &SeriesPoint::y);
  low_ = std::ranges::min(points, {}, &SeriesPoint::y).y;
  if (chart.scale == Chart::Scale::from_zero) low_ = std::min(low_, 0.0);
  high_ = logarithmic_ ? highest.y : upper_end(points, low_);
  if (high_ < highest.y)
    cut_ = fmt::format("few values lie above the scale; the highest is {} at step {:.0f}", value_text(highest.y), highest.x);
  if (logarithmic_) {
    const double room = std::max(0.05, 0.05 * (high_ - low_));
    low_ -= room, high_ += room;
    ticks_ = decades(low_, high_);
  } else {
    ticks_ = nice_ticks(low_, high_, std::max(3, chart.height / 45));
    low_ = ticks_.front(), high_ = cut_.empty() ? ticks_.back() : high_;
  }
}

double ChartScale::coordinate(double value) const { return logarithmic_ ? std::log10(value) : value; }

double ChartScale::to_y(double value) const {
  if (logarithmic_ && value <= 0) return height_;
  return height_ * (1 - (coordinate(value) - low_) / (high_ - low_));
}

std::vector<std::pair<double, std::string>> ChartScale::ticks() const {
  std::vector<std::pair<double, std::string>> labelled;
  const double step = ticks_.size() > 1 ? ticks_[1] - ticks_[0] : 1;
  for (const double tick : ticks_) {
    if (tick > high_ + 1e-9 * step) continue;
    const double value = logarithmic_ ? std::pow(10, tick) : tick;
    const bool small = !logarithmic_ && step < 1e-4;
    labelled.emplace_back(value, logarithmic_ ? fmt::format("{:.3g}", value)
                                 : small      ? fmt::format("{:.2g}", value)
                                              : tick_label(value, step));
  }
  return labelled;
}

}  // namespace muonp::launch
