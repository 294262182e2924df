#include "launch/html/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "launch/html/chart.h"
#include "launch/html/figure_parts.h"
#include "launch/report/markup.h"

namespace muonp::launch {
namespace {

constexpr int kFewRows = 8;  // rows of fewer are higher

class HeatFigure {
 public:
  explicit HeatFigure(const HeatMap& map)
      : map_(map),
        row_height_(std::ssize(map.rows) <= kFewRows ? 18 : 10),
        height_(row_height_ * static_cast<int>(map.rows.size())) {
    for (const HeatRow& row : map_.rows)
      for (const SeriesPoint& p : row.points)
        if (std::isfinite(coordinate(p.y))) low_ = std::min(low_, coordinate(p.y)), high_ = std::max(high_, coordinate(p.y));
  }

  bool empty() const { return low_ > high_; }

  std::string render() {
    out_ = figure_start(map_.id, map_.title, map_.unit, map_.note);
    out_ += fmt::format("<div class=\"plot heat\" role=\"img\" aria-label=\"{}\" style=\"height:{}px\">\n",
                        escaped(summary()), height_);
    out_ += fmt::format("<svg viewBox=\"0 0 1000 {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\n", height_);
    cells();
    out_ += "</svg>\n";
    names();
    out_ += step_ticks(map_.x_low, map_.x_high) + "</div>\n";
    scale();
    std::vector<ReadOut> rows;
    for (const HeatRow& row : map_.rows) rows.push_back({row.name, -1, &row.points});
    return out_ + read_outs(map_.x_low, map_.x_high, rows) + "</figure>\n";
  }

 private:
  double coordinate(double value) const { return !map_.logarithmic ? value : value > 0 ? std::log10(value) : NAN; }
  std::string end_text(double at) const {
    return value_text(map_.logarithmic ? std::stod(fmt::format("{:.3g}", std::pow(10, at))) : at);
  }
  double to_x(double x) const { return 1000 * (x - map_.x_low) / (map_.x_high - map_.x_low); }

  std::string summary() const {
    return fmt::format("{}{}: {} rows over steps, from {} to {}", map_.title, map_.unit.empty() ? "" : ", " + map_.unit,
                       map_.rows.size(), end_text(low_), end_text(high_));
  }

  // One path a colour; neighbours of the same colour are one cell.
  void cells() {
    std::array<std::string, kHeatLevels> paths;
    for (std::size_t r = 0; r < map_.rows.size(); ++r) {
      const std::vector<SeriesPoint>& points = map_.rows[r].points;
      for (std::size_t i = 0, next = 0; i < points.size(); i = next) {
        const int level = level_of(points[i].y);
        for (next = i + 1; next < points.size() && level_of(points[next].y) == level;) ++next;
        if (level < 0) continue;
        const double begin = to_x(points[i].x), end = next < points.size() ? to_x(points[next].x) : last_end(points);
        paths[static_cast<std::size_t>(level)] +=
            fmt::format("M{:.1f} {}h{:.1f}v{}h{:.1f}z", begin, r * row_height_, end - begin, row_height_, begin - end);
      }
    }
    for (int level = 0; level < kHeatLevels; ++level)
      if (const std::string& path = paths[static_cast<std::size_t>(level)]; !path.empty())
        out_ += fmt::format("<path class=\"h{}\" d=\"{}\"/>\n", level, path);
  }

  // The last cell is as wide as the one before.
  double last_end(const std::vector<SeriesPoint>& points) const {
    const double width = points.size() > 1 ? points.back().x - points[points.size() - 2].x : map_.x_high - map_.x_low;
    return std::min(1000.0, to_x(points.back().x + width));
  }

  int level_of(double value) const {
    if (!std::isfinite(value)) return -1;
    const double at = coordinate(value);
    return std::isfinite(at) ? heat_level(at, low_, high_) : 0;
  }

  void names() {
    // Of many rows, as many names as are readable.
    const std::size_t every = row_height_ >= 16 ? 1 : 2;
    for (std::size_t r = 0; r < map_.rows.size(); r += every)
      out_ += fmt::format("<span class=\"y\" style=\"top:{}px\">{}</span>",
                          static_cast<int>(r) * row_height_ + row_height_ / 2, escaped(map_.rows[r].name));
  }

  void scale() {
    out_ += fmt::format("<p class=\"heat-scale\"><b>{}</b>", escaped(end_text(low_)));
    for (int level = 0; level < kHeatLevels; ++level) out_ += fmt::format("<i class=\"h{}\"></i>", level);
    out_ += fmt::format("<b>{}</b></p>\n", escaped(end_text(high_)));
  }

  const HeatMap& map_;
  int row_height_, height_;
  double low_ = INFINITY, high_ = -INFINITY;  // coordinates
  std::string out_;
};

}  // namespace

int heat_level(double value, double low, double high) {
  if (!(high > low)) return 0;
  return std::clamp(static_cast<int>(kHeatLevels * (value - low) / (high - low)), 0, kHeatLevels - 1);
}

std::string render(const HeatMap& map) {
  HeatFigure figure(map);
  return figure.empty() ? "" : figure.render();
}

}  // namespace muonp::launch
