// Line plots as self-contained SVG: axes with ticks, grid, legend, colours that colour-blind readers tell
// apart.
#pragma once

#include <limits>
#include <string>
#include <vector>

namespace muonp::launch {

struct PlotPoint {
  double x = 0, y = 0;
  double error = 0;  // a bar from y - error to y + error; 0 for none
};

struct PlotSeries {
  std::string name;                   // in the legend
  std::string detail;                 // behind the name, lighter ("best 3.21")
  std::vector<PlotPoint> strong;      // the line that is read, with markers if it has few points
  std::vector<PlotPoint> light;       // thin and pale behind it; averaged where it has more points than pixels
  std::vector<PlotPoint> marks = {};  // hollow markers that no line joins
  std::vector<double> lost = {};      // places on the x axis without a value that can be drawn: a cross at the top
};

struct Plot {
  std::string title, subtitle, x_label, y_label;
  std::vector<PlotSeries> series;
  bool log_x = false;                                      // points that are not above 0 are then left out
  std::vector<std::string> x_names = {};                   // of x = 1, 2, ...: names stand there in the place of numbers
  double y_top = std::numeric_limits<double>::infinity();  // what lies above leaves the picture
};

// The y range goes from the lowest point to the highest of the strong lines and marks, with their bars, so that a training
// loss that begins far up does not flatten everything; without strong lines it covers the light ones. A value that is not
// finite is a gap in its line. Error if there is nothing to draw.
std::string render_svg(const Plot& plot);

// Round values (1, 2, 2.5 or 5 times a power of ten apart) that cover [low, high], about `wanted` of them.
std::vector<double> nice_ticks(double low, double high, int wanted);

// A tick of ticks `step` apart, with as many digits as tell it from its neighbours.
std::string tick_label(double value, double step);

}  // namespace muonp::launch
