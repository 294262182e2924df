// Curves over the steps: losses, learning rate, gradient, speed, evaluations, and whatever else is in metrics.jsonl.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/units.h"
#include "launch/html/page_sections.h"
#include "launch/html/spectra.h"
#include "launch/report/markup.h"

namespace muonp::launch {
namespace {

constexpr std::size_t kTrendPoints = 80;  // of the mean of a noisy curve
constexpr std::size_t kMostMarks = 300;
constexpr double kManyTimes = 50;           // values that differ by as much are drawn on a logarithmic scale
constexpr int kPhaseColours[] = {5, 4, 3};  // compute, spectral, communication; not those of the first runs
// Keys that have a place of their own, or are sums that only grow.
const std::set<std::string, std::less<>> kPlaced = {"loss",
                                                    "val_loss",
                                                    "lr",
                                                    "grad_norm",
                                                    "tokens_per_second",
                                                    "step_seconds",
                                                    "spectral_seconds",
                                                    "communication_seconds",
                                                    "other_seconds",
                                                    "seconds",
                                                    "tokens",
                                                    "counted_tokens",
                                                    "sent_bytes",
                                                    "skipped",
                                                    "spike",
                                                    "memory_bytes"};

void add_training(Chart& chart, const ThinnedSeries& series, const std::string& name, int colour) {
  const std::vector<SeriesPoint> points = series.extremes(), trend = series.means(kTrendPoints);
  const std::optional<double> end = points.back().y;
  if (points.size() <= 2 * kTrendPoints) {
    chart.curves.push_back({name, colour, ChartCurve::Style::line, points, end});
    return;
  }
  chart.curves.push_back({name, colour, ChartCurve::Style::behind, points});
  chart.curves.push_back({name, colour, ChartCurve::Style::trend, trend, trend.empty() ? end : trend.back().y});
}

void add_marks(Chart& chart, const RunRecord& run) {
  const auto& saved = run.checkpoints.first;
  for (std::size_t i = 0; i < std::min(saved.size(), kMostMarks); ++i)
    chart.marks.push_back({saved[i].step, false, "checkpoint"});
  const auto& skipped = run.skipped.first;
  for (std::size_t i = 0; i < std::min(skipped.size(), kMostMarks); ++i)
    chart.marks.push_back({skipped[i], true, "skipped"});
}

std::string note_of(const Runs& runs, const Chart& chart) {
  std::string note;
  const auto has = [&](const char* style) {
    return std::ranges::any_of(chart.marks, [&](const ChartMark& m) { return m.style == style; });
  };
  const bool trends = std::ranges::any_of(chart.curves, [](auto& c) { return c.style == ChartCurve::Style::trend; });
  if (trends) note = "pale: training, each step or lowest and highest of neighbours; thin: its mean";
  if (has("checkpoint")) note += std::string(note.empty() ? "" : "; ") + "short lines at the foot: checkpoints";
  if (has("skipped")) note += std::string(note.empty() ? "" : "; ") + "lines from top to foot: skipped steps";
  if (runs.size() > 1 && !chart.marks.empty()) note += " of all runs";
  return note;
}

double spread_of(const Runs& runs, std::string_view key) {
  double low = INFINITY, high = 0;
  for (const ReportedRun& run : runs)
    if (const ThinnedSeries* series = run.record->find(key))
      for (const ThinnedSeries::Column& c : series->columns())
        if (c.count > 0) low = std::min(low, c.lowest.y), high = std::max(high, c.highest.y);
  return low > 0 && high > 0 ? high / low : 0;
}

std::string grid(const std::string& charts) { return charts.empty() ? "" : "<div class=\"grid2\">\n" + charts + "</div>\n"; }

// One run's phases side by side as lines; of several, their shares are in the table.
std::string phases_chart(const Runs& runs) {
  if (runs.size() > 1) return chart_of(runs, {"step_seconds", "Time a step", "ms", Chart::Scale::from_zero, 1e3});
  Chart chart{.id = "step_seconds",
              .title = "Time a step",
              .unit = "ms",
              .note = "",
              .height = 180,
              .scale = Chart::Scale::from_zero,
              .curves = {},
              .marks = {}};
  std::tie(chart.x_low, chart.x_high) = step_range(runs);
  const std::pair<const char*, const char*> keys[] = {{"step_seconds", "whole step"},
                                                      {"other_seconds", "compute"},
                                                      {"spectral_seconds", "spectral"},
                                                      {"communication_seconds", "communication"}};
  for (int i = 0; i < 4; ++i) {
    const ThinnedSeries* series = runs.front().record->find(keys[i].first);
    if (series == nullptr) continue;
    ChartCurve curve{.name = keys[i].second, .colour = i == 0 ? 6 : kPhaseColours[i - 1], .points = series->means(200)};
    for (SeriesPoint& p : curve.points) p.y *= 1e3;
    chart.curves.push_back(std::move(curve));
  }
  return render(chart);
}

std::string share_bar(const double (&seconds)[3]) {
  const double whole = seconds[0] + seconds[1] + seconds[2];
  std::string bar = "<span class=\"bar\" aria-hidden=\"true\">";
  for (int i = 0; i < 3; ++i)
    bar += fmt::format("<i class=\"s{}\" style=\"width:{:.1f}%\"></i>", kPhaseColours[i], 100 * seconds[i] / whole);
  return bar + "</span>";
}

std::string phases_table(const Runs& runs) {
  PageTable table{
      .caption = "Time a step, mean over the run, of rank 0; compute is forward, backward and all that is not the others",
      .titles = {"run", "share", "compute", "spectral", "communication", "step"},
      .rows = {}};
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const PhaseTotals& p = runs[i].record->phases;
    if (p.steps == 0) continue;
    const double rest = std::max(0.0, p.step_seconds - p.spectral_seconds - p.communication_seconds);
    const double parts[3] = {rest, p.spectral_seconds, p.communication_seconds};
    std::vector<std::string> row = {run_cell(runs, i), share_bar(parts)};
    for (int k = 0; k < 3; ++k)
      row.push_back(fmt::format("<span class=\"key s{}\"><i></i>{:.1f} ms</span> <small>{}</small>", kPhaseColours[k],
                                1e3 * parts[k] / static_cast<double>(p.steps),
                                core::format_percent(parts[k] / p.step_seconds)));
    row.push_back(fmt::format("{:.1f} ms", 1e3 * p.step_seconds / static_cast<double>(p.steps)));
    table.rows.push_back(std::move(row));
  }
  return table.rows.empty() ? "" : render(table);
}

// Keys that some run has and `wanted` is true of.
template <class Wanted>
std::set<std::string> keys_of(const Runs& runs, const Wanted& wanted) {
  std::set<std::string> keys;
  for (const ReportedRun& run : runs)
    for (const auto& [key, series] : run.record->series)
      if (wanted(key)) keys.insert(key);
  return keys;
}

}  // namespace

std::string loss_section(const Runs& runs) {
  Chart chart{.id = "loss",
              .title = "Training and validation",
              .unit = "nats per token",
              .note = "",
              .height = 300,
              .curves = {},
              .marks = {}};
  std::tie(chart.x_low, chart.x_high) = step_range(runs);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const RunRecord& run = *runs[i].record;
    const std::string of = runs.size() > 1 ? runs[i].label + ", " : "";
    // A run alone has a colour for each curve.
    const int colour = static_cast<int>(i);
    if (const ThinnedSeries* loss = run.find("loss")) add_training(chart, *loss, of + "training", colour);
    if (const ThinnedSeries* loss = run.find("val_loss"))
      chart.curves.push_back({of + "validation", runs.size() > 1 ? colour : 1, ChartCurve::Style::dotted, loss->extremes()});
    add_marks(chart, run);
  }
  chart.note = note_of(runs, chart);
  return section("losses", "Loss", render(chart));
}

std::string optimization_section(const Runs& runs) {
  const bool wide = spread_of(runs, "grad_norm") > kManyTimes;
  return section("optimization", "Optimization",
                 grid(chart_of(runs, {"lr", "Learning rate", "of the matrices", Chart::Scale::from_zero}) +
                      chart_of(runs, {"grad_norm", "Gradient norm", "before clipping",
                                      wide ? Chart::Scale::logarithmic : Chart::Scale::from_zero})));
}

std::string speed_section(const Runs& runs) {
  return section(
      "speed", "Speed",
      grid(chart_of(runs, {"tokens_per_second", "Tokens per second", "", Chart::Scale::from_zero}) + phases_chart(runs)) +
          phases_table(runs));
}

std::string evaluation_section(const Runs& runs) {
  std::string charts;
  for (const std::string& key : keys_of(runs, [](const std::string& k) { return k.starts_with("eval."); }))
    charts += chart_of(runs, {key, key.substr(5), ""});
  return section("evaluations", "Evaluations", grid(charts));
}

std::string other_section(const Runs& runs) {
  std::string charts;
  const auto keys = keys_of(
      runs, [](const std::string& k) { return !kPlaced.contains(k) && !k.starts_with("eval.") && !is_spectral_key(k); });
  for (const std::string& key : keys) charts += chart_of(runs, {key, key, ""});
  if (charts.empty()) return "";
  return section("other", "Other numbers",
                 fmt::format("<details><summary>{} more</summary>\n{}</details>\n", keys.size(), grid(charts)));
}

}  // namespace muonp::launch
