#include "launch/report/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/units.h"
#include "launch/report/markup.h"
#include "launch/report/table.h"

namespace muonp::launch {
namespace {

constexpr double kWidth = 960, kHeight = 540, kLeft = 78, kTop = 76, kBottom = 64, kRightMargin = 24;
constexpr double kMarker = 6;  // that a marker at the edge reaches beyond it
constexpr double kLegendGap = 22, kLegendLine = 22,
                 kLetter = 7.4;     // pixels; a letter's mean width at 13 pixels
constexpr double kNameSlope = 0.5;  // names on the x axis fall by this much a pixel: a sine of 30 degrees
constexpr std::size_t kMarkersBelow = 40, kLightPoints = 160;
// Okabe and Ito, "Color Universal Design" (2008), without the yellow that vanishes on white.
constexpr std::array<const char*, 7> kColours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                 "#E69F00", "#56B4E9", "#333333"};
constexpr std::array<const char*, 3> kDashes = {"", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 3\""};

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

// Values that are not finite are NaN afterwards, and gaps of the line.
std::vector<PlotPoint> with_gaps(const std::vector<PlotPoint>& points) {
  std::vector<PlotPoint> kept;
  for (const PlotPoint& p : points)
    if (std::isfinite(p.x)) kept.push_back({p.x, std::isfinite(p.y) ? p.y : NAN, p.error});
  return kept;
}

// Means of equal runs of points, at most `most` of them.
std::vector<PlotPoint> averaged(const std::vector<PlotPoint>& points, std::size_t most) {
  if (points.size() <= most) return points;
  std::vector<PlotPoint> result;
  for (std::size_t i = 0; i < most; ++i) {
    const std::size_t begin = i * points.size() / most, end = (i + 1) * points.size() / most;
    PlotPoint mean;
    for (std::size_t j = begin; j < end; ++j) {
      mean.x += points[j].x;
      mean.y += points[j].y;
    }
    const auto count = static_cast<double>(end - begin);
    result.push_back({mean.x / count, mean.y / count});
  }
  return result;
}

std::vector<PlotPoint> logarithmic(const std::vector<PlotPoint>& points) {
  std::vector<PlotPoint> kept;
  for (const PlotPoint& p : points)
    if (p.x > 0) kept.push_back({std::log10(p.x), p.y, p.error});
  return kept;
}

// 1, 2 and 5 times the powers of ten in the range, all as logarithms; 10 and its powers alone over many decades.
std::vector<double> log_ticks(double low, double high) {
  std::vector<double> ticks;
  for (double power = std::floor(low); power <= std::ceil(high); ++power)
    for (const double factor : {1.0, 2.0, 5.0})
      if (factor == 1 || high - low < 4) ticks.push_back(power + std::log10(factor));
  return ticks;
}

class Canvas {
 public:
  Canvas(const Plot& plot, std::vector<PlotSeries> series) : plot_(plot), series_(std::move(series)) {
    for (const PlotSeries& s : series_) {
      for (const auto* points : {&s.strong, &s.marks})
        for (const PlotPoint& p : *points) x_.include(p.x), y_.include(p.y - p.error), y_.include(p.y + p.error);
      for (const PlotPoint& p : s.light) x_.include(p.x);
      for (const double x : s.lost) x_.include(x);
    }
    const bool only_light = y_.empty();
    for (const PlotSeries& s : series_)
      for (const PlotPoint& p : s.light)
        if (only_light || p.y < y_.low) y_.include(p.y);
    if (y_.empty()) core::fail("there is nothing to draw: no series has a finite value");
    double legend = 0;
    for (const PlotSeries& s : series_)
      legend = std::max(legend, kLetter * static_cast<double>(display_width(s.name) + display_width(s.detail) + 2));
    right_ = kWidth - kRightMargin - kLegendGap - 34 - std::min(legend, 320.0);
    height_ = std::max(kHeight, kTop + kLegendLine * static_cast<double>(series_.size()) + kLegendLine);
    for (const std::string& name : plot.x_names)
      bottom_margin_ = std::max(bottom_margin_, kBottom + kNameSlope * kLetter * static_cast<double>(display_width(name)));
    if (!plot.x_names.empty()) x_ = {0.5, static_cast<double>(plot.x_names.size()) + 0.5};
    y_.high = std::max(y_.low, std::min(y_.high, plot.y_top));
    x_ticks_ = plot.log_x ? log_ticks(x_.low, x_.high) : nice_ticks(x_.low, x_.high, 8);
    y_ticks_ = nice_ticks(y_.low, y_.high, 7);
    y_ = {y_ticks_.front(), y_ticks_.back()};
    if (x_.low == x_.high) x_ = {x_ticks_.front(), x_ticks_.back()};
  }

  std::string render() {
    header();
    axes();
    lines();
    legend();
    out_ += "</svg>\n";
    return std::move(out_);
  }

 private:
  double bottom() const { return height_ - bottom_margin_; }
  double to_x(double x) const { return kLeft + (x - x_.low) / (x_.high - x_.low) * (right_ - kLeft); }
  double to_y(double y) const { return bottom() - (y - y_.low) / (y_.high - y_.low) * (bottom() - kTop); }
  const char* colour(std::size_t i) const { return kColours[i % kColours.size()]; }
  const char* dash(std::size_t i) const { return kDashes[i / kColours.size() % kDashes.size()]; }

  void header() {
    out_ += fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "role=\"img\" "
        "font-family=\"Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif\">\n"
        "<title>{2}</title>\n"
        "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n"
        "<clipPath id=\"area\"><rect x=\"{7}\" y=\"{4}\" width=\"{8:.1f}\" height=\"{5:.1f}\"/></clipPath>\n"
        "<text x=\"{3}\" y=\"34\" font-size=\"18\" font-weight=\"600\" fill=\"#1a1a1a\">{2}</text>\n"
        "<text x=\"{3}\" y=\"55\" font-size=\"13\" fill=\"#666666\">{6}</text>\n",
        kWidth, height_, escaped(plot_.title), kLeft, kTop - 4, bottom() - kTop + 8, escaped(plot_.subtitle),
        kLeft - kMarker, right_ - kLeft + 2 * kMarker);
  }

  void text(double x, double y, const char* anchor, const std::string& content, const char* extra = "") {
    out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, extra,
                        escaped(content));
  }

  void axes() {
    out_ += "<g font-size=\"13\" fill=\"#444444\">\n";
    const double y_step = y_ticks_[1] - y_ticks_[0], x_step = x_ticks_[1] - x_ticks_[0];
    for (const double tick : y_ticks_) {
      const double y = to_y(tick);
      out_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e4e4e4\"/>\n", kLeft, y,
                          right_, y);
      text(kLeft - 9, y + 4.5, "end", tick_label(tick, y_step));
    }
    if (plot_.x_names.empty())
      number_ticks(x_step);
    else
      name_ticks();
    out_ += fmt::format("<path d=\"M{:.1f} {:.1f}V{:.1f}H{:.1f}\" fill=\"none\" stroke=\"#666666\"/>\n", kLeft, kTop,
                        bottom(), right_);
    text((kLeft + right_) / 2, height_ - 18, "middle", plot_.x_label, " font-size=\"14\"");
    const double middle = (kTop + bottom()) / 2;
    const std::string turn = fmt::format(" font-size=\"14\" transform=\"rotate(-90 22 {:.1f})\"", middle);
    text(22, middle, "middle", plot_.y_label, turn.c_str());
    out_ += "</g>\n";
  }

  void x_tick(double x) {
    out_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#f0f0f0\"/>\n", x, kTop, x,
                        bottom());
    out_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#666666\"/>\n", x, bottom(),
                        x, bottom() + 5);
  }

  void number_ticks(double step) {
    for (const double tick : x_ticks_) {
      if (tick < x_.low - 1e-9 * step || tick > x_.high + 1e-9 * step) continue;
      x_tick(to_x(tick));
      text(to_x(tick), bottom() + 21, "middle",
           plot_.log_x ? fmt::format("{:g}", std::pow(10, tick)) : tick_label(tick, step));
    }
  }

  void name_ticks() {
    for (std::size_t i = 0; i < plot_.x_names.size(); ++i) {
      const double x = to_x(static_cast<double>(i + 1)), y = bottom() + 19;
      x_tick(x);
      text(x, y, "end", plot_.x_names[i], fmt::format(" transform=\"rotate(-30 {:.1f} {:.1f})\"", x, y).c_str());
    }
  }

  std::string path(const std::vector<PlotPoint>& points) const {
    std::string d;
    bool drawing = false;
    for (const PlotPoint& p : points) {
      if (std::isfinite(p.y)) d += fmt::format("{}{:.1f} {:.1f}", drawing ? "L" : "M", to_x(p.x), to_y(p.y));
      drawing = std::isfinite(p.y);
    }
    return d;
  }

  void lines() {
    out_ += "<g clip-path=\"url(#area)\" fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\">\n";
    for (std::size_t i = 0; i < series_.size(); ++i)
      if (!series_[i].light.empty())
        out_ += fmt::format("<path d=\"{}\" stroke=\"{}\" stroke-width=\"1.2\" stroke-opacity=\"0.32\"/>\n",
                            path(series_[i].light), colour(i));
    for (std::size_t i = 0; i < series_.size(); ++i) {
      const auto& strong = series_[i].strong;
      if (strong.empty()) continue;
      out_ += fmt::format("<path d=\"{}\" stroke=\"{}\" stroke-width=\"2.4\"{}/>\n", path(strong), colour(i), dash(i));
      bars(strong, colour(i));
      if (strong.size() > kMarkersBelow) continue;
      for (const PlotPoint& p : strong)
        if (std::isfinite(p.y))
          out_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.4\" fill=\"{}\" stroke=\"#ffffff\"/>\n", to_x(p.x),
                              to_y(p.y), colour(i));
    }
    for (std::size_t i = 0; i < series_.size(); ++i) marks(series_[i], colour(i));
    out_ += "</g>\n";
  }

  void bars(const std::vector<PlotPoint>& points, const char* stroke) {
    for (const PlotPoint& p : points) {
      if (!std::isfinite(p.y) || p.error == 0) continue;
      const double x = to_x(p.x), low = to_y(p.y - p.error), high = to_y(p.y + p.error);
      out_ += fmt::format(
          "<path d=\"M{0:.1f} {2:.1f}H{1:.1f}M{3:.1f} {2:.1f}V{4:.1f}M{0:.1f} {4:.1f}H{1:.1f}\" stroke=\"{5}\" "
          "stroke-width=\"1.4\"/>\n",
          x - 4, x + 4, low, x, high, stroke);
    }
  }

  void marks(const PlotSeries& series, const char* stroke) {
    bars(series.marks, stroke);
    for (const PlotPoint& p : series.marks)
      if (std::isfinite(p.y))
        out_ +=
            fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"#ffffff\" stroke=\"{}\" stroke-width=\"2\"/>\n",
                        to_x(p.x), to_y(p.y), stroke);
    for (const double x : series.lost)
      out_ += fmt::format(
          "<path d=\"M{0:.1f} {2:.1f}L{1:.1f} {3:.1f}M{0:.1f} {3:.1f}L{1:.1f} {2:.1f}\" stroke=\"{4}\" "
          "stroke-width=\"2\"/>\n",
          to_x(x) - 5, to_x(x) + 5, kTop + 1, kTop + 11, stroke);
  }

  void legend() {
    out_ += "<g font-size=\"13\">\n";
    const double x = right_ + kLegendGap;
    double y = kTop + 10;
    for (std::size_t i = 0; i < series_.size(); ++i, y += kLegendLine) {
      const bool strong = !series_[i].strong.empty() || !series_[i].marks.empty();
      out_ += fmt::format(
          "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
          "stroke-width=\"{}\"{}{}/>\n",
          x, y - 4.5, x + 26, y - 4.5, colour(i), strong ? 2.4 : 1.2, strong ? "" : " stroke-opacity=\"0.5\"", dash(i));
      out_ += fmt::format(
          "<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"#1a1a1a\">{}<tspan fill=\"#666666\" "
          "dx=\"7\">{}</tspan></text>\n",
          x + 34, y, escaped(series_[i].name), escaped(series_[i].detail));
    }
    out_ += "</g>\n";
  }

  const Plot& plot_;
  std::vector<PlotSeries> series_;
  Range x_, y_;
  std::vector<double> x_ticks_, y_ticks_;
  double right_ = 0, height_ = kHeight, bottom_margin_ = kBottom;
  std::string out_;
};

}  // namespace

std::vector<double> nice_ticks(double low, double high, int wanted) {
  MUONP_ASSERT(low <= high && wanted >= 2, "[{}, {}], {} ticks", low, high, wanted);
  if (low == high) {
    const double reach = low == 0 ? 1 : std::fabs(low) * 0.1;
    low -= reach;
    high += reach;
  }
  const double rough = (high - low) / wanted;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.5, 2.0, 1.0})
    if (rough <= factor * power * (1 + 1e-9)) step = factor * power;
  std::vector<double> ticks;
  const auto first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string tick_label(double value, double step) {
  if (std::fabs(value) >= 10000) return core::format_count(value);
  const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 9);
  // A step of 2.5 or 0.25 needs one digit more than its power of ten.
  const double scaled = step * std::pow(10, digits);
  const int exact = std::fabs(scaled - std::round(scaled)) > 1e-6 ? digits + 1 : digits;
  return fmt::format("{:.{}f}", std::fabs(value) < step * 1e-9 ? 0.0 : value, exact);
}

std::string render_svg(const Plot& plot) {
  std::vector<PlotSeries> series;
  for (const PlotSeries& s : plot.series)
    series.push_back(
        {s.name, s.detail, with_gaps(s.strong), averaged(with_gaps(s.light), kLightPoints), with_gaps(s.marks), s.lost});
  if (plot.log_x)
    for (PlotSeries& s : series) {
      for (auto* points : {&s.strong, &s.light, &s.marks}) *points = logarithmic(*points);
      std::erase_if(s.lost, [](double x) { return x <= 0; });
      for (double& x : s.lost) x = std::log10(x);
    }
  return Canvas(plot, std::move(series)).render();
}

}  // namespace muonp::launch
