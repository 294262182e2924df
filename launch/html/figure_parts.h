// What line charts and heat maps have in common.
#pragma once

#include <string>
#include <vector>

#include "launch/records/thinned_series.h"

namespace muonp::launch {

// "<figure ...><figcaption>...": the caller closes the figure.
std::string figure_start(const std::string& id, const std::string& title, const std::string& unit, const std::string& note);

// Labels of steps below a plot, as percentages of its width.
std::string step_ticks(double low, double high);

struct ReadOut {
  std::string name;
  int colour = -1;  // -1: no mark
  const std::vector<SeriesPoint>* points = nullptr;
};
// What page.js reads out: a <script> of JSON behind the plot.
std::string read_outs(double low, double high, const std::vector<ReadOut>& curves);

inline constexpr int kColours = 8;  // in page.css; numbers from here on are the same ones, dashed
std::string colour_class(int colour);

}  // namespace muonp::launch
