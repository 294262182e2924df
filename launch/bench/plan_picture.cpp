#include "launch/bench/plan_picture.h"

#include <algorithm>
#include <array>

#include "core/base/index.h"
#include "core/base/units.h"
#include "launch/report/markup.h"
#include "launch/report/svg_plot.h"

namespace muonp::launch {
namespace {

using core::at;
using dist::TimelineSpan;

constexpr double kWidth = 960, kLeft = 132, kRight = 936, kTop = 78;
constexpr double kLane = 26, kLaneGap = 4, kPanelTitle = 26, kPanelGap = 16;
constexpr double kLetter = 7.2;     // pixels; a letter's mean width at 12 pixels
constexpr double kNarrowest = 0.4;  // pixels; what is narrower is drawn as wide as this
constexpr double kLegendColumn = 165, kLegendLine = 20;
constexpr std::array<const char*, dist::kStreams> kLanes = {"compute", "communication", "host"};

struct Colour {
  const char* fill;
  const char* text;
};
// By StepPhase: passes in blues, messages in warm colours, the optimizer's work in greens, agreement grey.
constexpr std::array<Colour, optim::kStepPhases> kColours = {{{"#9ecae9", "#1a1a1a"},
                                                              {"#0072B2", "#ffffff"},
                                                              {"#D55E00", "#ffffff"},
                                                              {"#E69F00", "#1a1a1a"},
                                                              {"#555555", "#ffffff"},
                                                              {"#b9e0c9", "#1a1a1a"},
                                                              {"#CC79A7", "#1a1a1a"},
                                                              {"#009E73", "#ffffff"},
                                                              {"#8C4B79", "#ffffff"},
                                                              {"#00664B", "#ffffff"}}};

struct Panel {
  std::string title;
  const Forecast* forecast;
};

class Picture {
 public:
  explicit Picture(std::vector<Panel> panels) : panels_(std::move(panels)) {
    for (const Panel& panel : panels_)
      for (const TimelineSpan& span : panel.forecast->step.spans) {
        end_ = std::max(end_, span.finish);
        used_[at(span.phase)] = true;
      }
  }

  std::string render(const std::string& title, const std::string& subtitle) {
    for (const Panel& panel : panels_) draw(panel);
    axis();
    legend();
    return fmt::format(
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1:.0f}\" width=\"{0}\" height=\"{1:.0f}\" "
               "role=\"img\" font-family=\"Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif\" "
               "font-size=\"12\">\n<title>{2}</title>\n<rect width=\"{0}\" height=\"{1:.0f}\" fill=\"#ffffff\"/>\n"
               "<text x=\"24\" y=\"34\" font-size=\"18\" font-weight=\"600\" fill=\"#1a1a1a\">{2}</text>\n"
               "<text x=\"24\" y=\"55\" font-size=\"13\" fill=\"#666666\">{3}</text>\n",
               kWidth, y_ + 8, escaped(title), escaped(subtitle)) +
           out_ + "</svg>\n";
  }

 private:
  double to_x(double seconds) const { return kLeft + seconds / end_ * (kRight - kLeft); }

  void text(double x, double y, const char* style, const std::string& content) {
    out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, escaped(content));
  }

  void draw(const Panel& panel) {
    const optim::StepPrediction& step = panel.forecast->step;
    std::string detail =
        fmt::format("{} a step, {}, bound by {}", core::format_duration(step.seconds()),
                    core::format_rate(panel.forecast->tokens_per_second(), "tokens"), name_of(step.bound_by()));
    if (step.simulated_passes < step.passes)
      detail += fmt::format("; {} of its {} passes are drawn", step.simulated_passes, step.passes);
    out_ += fmt::format(
        "<text x=\"24\" y=\"{:.1f}\" font-size=\"14\" font-weight=\"600\" fill=\"#1a1a1a\">{}<tspan dx=\"10\" "
        "font-size=\"13\" "
        "font-weight=\"400\" fill=\"#666666\">{}</tspan></text>\n",
        y_ + 14, escaped(panel.title), escaped(detail));
    y_ += kPanelTitle;
    for (int s = 0; s < dist::kStreams; ++s) {
      const auto of_stream = [s](const TimelineSpan& span) { return span.stream == static_cast<dist::Stream>(s); };
      if (!std::ranges::any_of(step.spans, of_stream)) continue;
      text(kLeft - 10, y_ + kLane / 2 + 4, "text-anchor=\"end\" fill=\"#444444\"", kLanes[at(s)]);
      out_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.0f}\" fill=\"#f3f3f3\"/>\n", kLeft,
                          y_, kRight - kLeft, kLane);
      for (const TimelineSpan& span : step.spans)
        if (of_stream(span)) draw(span);
      y_ += kLane + kLaneGap;
    }
    y_ += kPanelGap - kLaneGap;
  }

  void draw(const TimelineSpan& span) {
    const std::string name(name_of(static_cast<optim::StepPhase>(span.phase)));
    const double x = to_x(span.start), width = std::max(to_x(span.finish) - x, kNarrowest);
    const Colour& colour = kColours[at(span.phase)];
    out_ += fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.0f}\" fill=\"{}\"><title>{}: {}</title></rect>\n", x,
        y_, width, kLane, colour.fill, escaped(name), escaped(core::format_duration(span.finish - span.start)));
    if (width < kLetter * static_cast<double>(name.size()) + 6) return;
    text(x + width / 2, y_ + kLane / 2 + 4, fmt::format("text-anchor=\"middle\" fill=\"{}\"", colour.text).c_str(), name);
  }

  void axis() {
    double unit = 1;
    const char* name = "s";
    for (const char* smaller : {"ms", "us"})
      if (end_ < unit) unit *= 1e-3, name = smaller;
    const std::vector<double> ticks = nice_ticks(0, end_ / unit, 8);
    const double bottom = y_ - kPanelGap + kLaneGap;
    for (const double tick : ticks) {
      const double x = to_x(tick * unit);
      if (x > kRight + 1e-6) continue;
      out_ += fmt::format("<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" stroke=\"#666666\"/>\n", x,
                          bottom, bottom + 5);
      text(x, bottom + 19, "text-anchor=\"middle\" fill=\"#444444\"",
           fmt::format("{} {}", tick_label(tick, ticks[1] - ticks[0]), name));
    }
    out_ += fmt::format("<path d=\"M{:.1f} {:.1f}H{:.1f}\" stroke=\"#666666\"/>\n", kLeft, bottom, kRight);
    y_ = bottom + 36;
  }

  void legend() {
    double x = kLeft;
    for (int p = 0; p < optim::kStepPhases; ++p) {
      if (!used_[at(p)]) continue;
      if (x + kLegendColumn > kWidth) x = kLeft, y_ += kLegendLine;
      out_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"12\" fill=\"{}\"/>\n", x, y_,
                          kColours[at(p)].fill);
      text(x + 18, y_ + 10, "fill=\"#444444\"", std::string(name_of(static_cast<optim::StepPhase>(p))));
      x += kLegendColumn;
    }
    y_ += kLegendLine;
  }

  std::vector<Panel> panels_;
  std::array<bool, optim::kStepPhases> used_{};
  double end_ = 0, y_ = kTop;
  std::string out_;
};

}  // namespace

std::string plan_svg(const std::vector<PlanReport>& reports, const dist::Cluster& cluster, const std::string& model) {
  std::vector<Panel> panels;
  for (const PlanReport& r : reports) {
    const std::string ranks = fmt::format("{} rank{}", r.ranks, r.ranks == 1 ? "" : "s");
    panels.push_back({fmt::format("{}, {}", ranks, r.configured.name), &r.configured});
    if (r.best && r.best->settings != r.configured.settings)
      panels.push_back({fmt::format("{}, {}", ranks, overrides(r.configured.settings, r.best->settings)), &*r.best});
  }
  return Picture(std::move(panels))
      .render(model, fmt::format("predicted step on {} ({} rates)", cluster.name, cluster.source));
}

}  // namespace muonp::launch
