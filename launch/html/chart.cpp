#include "launch/html/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/units.h"
#include "launch/html/chart_scale.h"
#include "launch/html/figure_parts.h"
#include "launch/report/markup.h"
#include "launch/report/table.h"

namespace muonp::launch {
namespace {

using Style = ChartCurve::Style;

constexpr int kLabelHeight = 17;          // pixels
constexpr std::size_t kLongestName = 20;  // that has room at a curve's end
constexpr std::size_t kDotsBelow = 60;    // points of a line that has dots

struct EndLabel {
  double y = 0;  // pixels
  const ChartCurve* curve = nullptr;
  double value = 0;
};

class Figure {
 public:
  explicit Figure(const Chart& chart) : chart_(chart), scale_(chart) { place_labels(); }

  std::string render() {
    caption();
    legend();
    out_ += fmt::format("<div class=\"plot\" role=\"img\" aria-label=\"{}\" style=\"height:{}px\">\n", escaped(summary()),
                        chart_.height);
    out_ += fmt::format("<svg viewBox=\"0 0 1000 {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\n", chart_.height);
    grid();
    for (const Style style : {Style::behind, Style::trend, Style::line, Style::dotted})
      for (const ChartCurve& curve : chart_.curves)
        if (curve.style == style) line(curve);
    marks();
    out_ += "</svg>\n";
    tick_labels();
    end_labels();
    out_ += "</div>\n";
    points();
    out_ += "</figure>\n";
    return std::move(out_);
  }

 private:
  double to_x(double x) const { return 1000 * (x - chart_.x_low) / (chart_.x_high - chart_.x_low); }
  void caption() {
    std::string note = chart_.note;
    if (!scale_.cut().empty()) note += (note.empty() ? "" : "; ") + scale_.cut();
    out_ += figure_start(chart_.id, chart_.title, chart_.unit, note);
  }

  // Where the page is narrow, names stand above the chart and not at the ends of its curves.
  void legend() {
    std::string entries;
    int named = 0;
    bool always = false;
    for (const ChartCurve& curve : chart_.curves)
      if (curve.style != Style::behind && ++named > 0) {
        always = always || display_width(curve.name) > kLongestName;
        entries += fmt::format("<li class=\"{}{}\"><i></i>{}</li>", colour_class(curve.colour),
                               curve.style == Style::dotted ? " dotted" : "", escaped(curve.name));
      }
    always = always || std::ssize(labels_) < named;
    if (named > 1)
      out_ += fmt::format("<ul class=\"legend{}\" aria-hidden=\"true\">{}</ul>\n", always ? " always" : "", entries);
  }

  // For whoever does not see the lines.
  std::string summary() const {
    std::string text = chart_.title + (chart_.unit.empty() ? "" : ", " + chart_.unit);
    for (const ChartCurve& curve : chart_.curves) {
      if (curve.style == Style::trend || curve.points.empty()) continue;
      const SeriesPoint &first = curve.points.front(), &last = curve.points.back();
      text += fmt::format(". {}: {} at step {:.0f}", curve.name, value_text(first.y), first.x);
      if (last.x > first.x) text += fmt::format(", {} at step {:.0f}", value_text(last.y), last.x);
    }
    return text;
  }

  void grid() {
    for (const auto& [value, label] : scale_.ticks())
      out_ += fmt::format("<line class=\"grid\" x1=\"0\" x2=\"1000\" y1=\"{0:.1f}\" y2=\"{0:.1f}\"/>\n", scale_.to_y(value));
  }

  void line(const ChartCurve& curve) {
    std::string path, dots;
    bool drawing = false;
    const bool alone = curve.points.size() == 1;
    const bool dotted = alone || (curve.style == Style::dotted && curve.points.size() <= kDotsBelow);
    for (const SeriesPoint& p : curve.points) {
      const bool there = std::isfinite(p.y);
      if (there) path += fmt::format("{}{:.1f} {:.1f}", drawing ? "L" : "M", to_x(p.x), scale_.to_y(p.y));
      if (there && dotted) dots += fmt::format("M{:.1f} {:.1f}h0", to_x(p.x), scale_.to_y(p.y));
      drawing = there;
    }
    const char* kind = curve.style == Style::behind   ? " behind"
                       : curve.style == Style::trend  ? " trend"
                       : curve.style == Style::dotted ? " strong"
                                                      : "";
    out_ += fmt::format("<path class=\"curve {}{}\" d=\"{}\"/>\n", colour_class(curve.colour), kind, path);
    // A line of no length with round ends is a dot that does not stretch.
    if (dotted) out_ += fmt::format("<path class=\"dots {}\" d=\"{}\"/>\n", colour_class(curve.colour), dots);
  }

  void marks() {
    for (const ChartMark& mark : chart_.marks)
      out_ += fmt::format("<path class=\"mark {}\" d=\"M{:.1f} {}V{}\"/>\n", mark.style, to_x(mark.x), chart_.height,
                          mark.whole ? 0 : chart_.height - 9);
  }

  void tick_labels() {
    for (const auto& [value, label] : scale_.ticks())
      out_ += fmt::format("<span class=\"y\" style=\"top:{:.1f}px\">{}</span>", scale_.to_y(value), escaped(label));
    out_ += step_ticks(chart_.x_low, chart_.x_high);
  }

  // One below the other where curves end close together; none for more curves than there is room for.
  void place_labels() {
    for (const ChartCurve& curve : chart_.curves) {
      if (curve.style == Style::behind || curve.points.empty()) continue;
      const auto last = std::find_if(curve.points.rbegin(), curve.points.rend(), [](auto& p) { return std::isfinite(p.y); });
      if (last == curve.points.rend()) continue;
      labels_.push_back(
          {std::clamp(scale_.to_y(last->y), 0.0, double(chart_.height)), &curve, curve.end.value_or(curve.points.back().y)});
    }
    std::ranges::stable_sort(labels_, {}, &EndLabel::y);
    const auto room = static_cast<std::size_t>(chart_.height / kLabelHeight);
    if (labels_.size() > room) labels_.resize(room);
    double least = 0;
    for (EndLabel& label : labels_) least = (label.y = std::max(label.y, least)) + kLabelHeight;
    double most = chart_.height;
    for (auto label = labels_.rbegin(); label != labels_.rend(); ++label)
      most = (label->y = std::min(label->y, most)) - kLabelHeight;
  }

  void end_labels() {
    const bool one = labels_.size() == 1;
    for (const EndLabel& label : labels_)
      out_ += fmt::format("<span class=\"end {}\" style=\"top:{:.1f}px\"><b>{}</b>{}</span>\n",
                          colour_class(label.curve->colour), label.y, escaped(value_text(label.value)),
                          one ? "" : fmt::format(" <span class=\"name\">{}</span>", escaped(label.curve->name)));
  }

  void points() {
    std::vector<ReadOut> curves;
    for (const ChartCurve& curve : chart_.curves)
      if (curve.style != Style::trend) curves.push_back({curve.name, curve.colour % kColours, &curve.points});
    out_ += read_outs(chart_.x_low, chart_.x_high, curves);
  }

  const Chart& chart_;
  const ChartScale scale_;
  std::vector<EndLabel> labels_;
  std::string out_;
};

}  // namespace

std::string value_text(double value) {
  if (!std::isfinite(value)) return "not finite";
  const double size = std::fabs(value);
  if (size >= 9999.5) return core::format_count(value);
  if (size > 0 && size < 1e-3) return fmt::format("{:.2e}", value);
  return fmt::format("{:.4g}", value);
}

std::string render(const Chart& chart) { return drawn_points(chart).empty() ? "" : Figure(chart).render(); }

}  // namespace muonp::launch
