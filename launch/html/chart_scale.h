// The vertical scale of a chart: range, ticks and where a value lies.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/html/chart.h"

namespace muonp::launch {

class ChartScale {
 public:
  // Of all finite points (above 0, if the scale is logarithmic); there is at least one.
  explicit ChartScale(const Chart& chart);

  // Pixels from the top; outside [0, height] where the scale ends before the value.
  double to_y(double value) const;
  std::vector<std::pair<double, std::string>> ticks() const;  // value, label
  const std::string& cut() const { return cut_; }             // what is not shown, for the note

 private:
  double coordinate(double value) const;
  bool logarithmic_;
  int height_;
  double low_, high_;  // coordinates
  std::vector<double> ticks_;
  std::string cut_;
};

// All finite points of curves in no order; of a logarithmic scale those above 0.
std::vector<SeriesPoint> drawn_points(const Chart& chart);

}  // namespace muonp::launch
