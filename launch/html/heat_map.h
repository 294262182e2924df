// A number over step and row as colours: an SVG of cells that stretches with the page's width, row names and a scale as
// text.
#pragma once

#include <string>
#include <vector>

#include "launch/records/thinned_series.h"

namespace muonp::launch {

struct HeatRow {
  std::string name;
  std::vector<SeriesPoint> points;  // by x; a cell lasts until the next point
};

struct HeatMap {
  std::string id, title, unit, note;
  bool logarithmic = false;  // colours by the logarithm; values that are not above 0 have the lowest colour
  double x_low = 0, x_high = 1;
  std::vector<HeatRow> rows;  // from the top
};

// A <figure>. Empty where no row has a finite point (above 0, if logarithmic).
std::string render(const HeatMap& map);

inline constexpr int kHeatLevels = 12;  // colours in page.css, h0 (lowest) to h11

// The level of `value` between low and high, in [0, kHeatLevels).
int heat_level(double value, double low, double high);

}  // namespace muonp::launch
