// Line charts for a page: an SVG that stretches with the page's width holds lines only; ticks, names and values are text of
// the page, placed over it by percentages, so that they are readable at every width. A script (page.js) reads values out by
// pointer and keyboard, from the points that stand beside the chart as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/records/thinned_series.h"

namespace muonp::launch {

struct ChartCurve {
  enum class Style : std::uint8_t {
    line,
    dotted,  // with a dot at each point, where there are few
    behind,  // thin and pale; not named at its end, and read out all the same
    trend    // named at its end, but not read out: a mean of what is behind
  };
  std::string name;
  int colour = 0;  // of the run; any number ≥ 0
  Style style = Style::line;
  std::vector<SeriesPoint> points;  // by x; NaN is a gap
  std::optional<double> end = {};   // the value beside its end; empty: that of the last point
};

// A short line at the foot of the chart, or over its whole height.
struct ChartMark {
  double x = 0;
  bool whole = false;
  std::string style;  // class of the page's style: "checkpoint", "skipped"
};

struct Chart {
  enum class Scale : std::uint8_t { linear, from_zero, logarithmic };
  std::string id, title, unit, note;
  int height = 200;  // pixels
  Scale scale = Scale::linear;
  double x_low = 0, x_high = 1;
  std::vector<ChartCurve> curves;
  std::vector<ChartMark> marks;
};

// A <figure>. Where few points are far above all others, the scale ends below them, and the note says so. Empty where no
// curve has a finite point.
std::string render(const Chart& chart);

// "1.234", "0.0005", "12.3 k": four significant digits.
std::string value_text(double value);

}  // namespace muonp::launch
