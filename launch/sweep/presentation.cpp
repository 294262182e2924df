#include "launch/sweep/presentation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/units.h"
#include "launch/train/run_history.h"

namespace muonp::launch {
namespace {

std::string arm_name(const Expansion& sweep, std::size_t arm) {
  const std::string& name = sweep.file().arms[arm].name;
  return name.empty() ? "all" : name;
}

std::string estimate_cell(const std::optional<Estimate>& e) {
  if (!e || e->values.empty()) return "-";
  if (e->values.size() == 1) return fmt::format("{:.4f}", e->mean);
  return fmt::format("{:.4f} ± {:.4f}", e->mean, e->spread);
}

std::string seeds_cell(const std::optional<Estimate>& e) { return e ? fmt::format("{}", e->values.size()) : "-"; }

// "≤ 0.0025 to 0.01": nothing below 0.0025 was tried.
std::string tolerance_cell(const std::optional<Tolerance>& t) {
  if (!t) return "-";
  const std::string low = fmt::format("{}{:g}", t->low_open ? "≤ " : "", t->low);
  const std::string high = fmt::format("{}{:g}", t->high_open ? "≥ " : "", t->high);
  return t->low == t->high ? fmt::format("{:g}", t->low) : fmt::format("{} to {}", low, high);
}

std::string whole_cell(int count) { return count == 0 ? "" : fmt::format("{}", count); }

bool sends(const SweepSummary& summary) {
  return std::ranges::any_of(summary.arms, [](const ArmSummary& arm) { return arm.sent_per_step > 0; });
}

std::string axis_text(const Expansion& sweep, const SweepSummary& summary) {
  return summary.axis.empty() ? "axis" : sweep.label(summary.axis);
}

// What leaves the picture: settings so bad that the others could not be told apart beside them.
double top_of(const Expansion& sweep, const SweepSummary& summary) {
  std::vector<double> means;
  for (const PointSummary& point : summary.points)
    if (point.value) means.push_back(point.value->mean);
  if (means.size() < 3 || !sweep.file().lower_is_better) return INFINITY;
  std::ranges::sort(means);
  const double best = means.front(), usual = means[means.size() * 3 / 4];
  return best + 3 * std::max(usual - best, 0.01 * std::fabs(best));
}

PlotSeries arm_series(const Expansion& sweep, const SweepSummary& summary, std::size_t a) {
  const ArmSummary& arm = summary.arms[a];
  PlotSeries series{arm_name(sweep, a), arm.at_best ? fmt::format("{:.4g}", arm.at_best->mean) : "no value", {}, {}};
  for (const AxisPoint& at : summary.curves[a]) {
    if (at.not_finite) series.lost.push_back(at.x);
    if (!at.point) continue;
    const Estimate& e = *summary.points[*at.point].value;
    series.strong.push_back({at.x, e.mean, e.spread});
    if (arm.own_seeds && at.point == arm.best) series.marks.push_back({at.x, arm.at_best->mean, arm.at_best->spread});
  }
  return series;
}

Plot plot_over_axis(const Expansion& sweep, const SweepSummary& summary, Plot plot) {
  plot.x_label = summary.axis;
  plot.log_x = summary.log_axis;
  plot.y_top = top_of(sweep, summary);
  for (std::size_t a = 0; a < summary.arms.size(); ++a) plot.series.push_back(arm_series(sweep, summary, a));
  return plot;
}

Plot plot_over_names(const Expansion& sweep, const SweepSummary& summary, Plot plot) {
  PlotSeries series{"mean", "", {}, {}};
  const auto add = [&](const std::string& name, const std::optional<Estimate>& e, const RunCounts& counts) {
    plot.x_names.push_back(name);
    const auto x = static_cast<double>(plot.x_names.size());
    if (e) series.marks.push_back({x, e->mean, e->spread});
    if (!e && counts.not_finite > 0) series.lost.push_back(x);
  };
  if (summary.arms.size() > 1)
    for (std::size_t a = 0; a < summary.arms.size(); ++a)
      add(arm_name(sweep, a), summary.arms[a].at_best, summary.arms[a].counts);
  else
    for (std::size_t p = 0; p < summary.points.size(); ++p)
      add(sweep.describe(sweep.points()[p]), summary.points[p].value, summary.points[p].counts);
  plot.series.push_back(std::move(series));
  return plot;
}

}  // namespace

Table arms_table(const Expansion& sweep, const SweepSummary& summary) {
  constexpr Align right = Align::right;
  std::vector<std::string> titles = {"arm", "best setting", sweep.file().metric, "seeds"};
  std::vector<Align> alignment = {Align::left, Align::left, right, right};
  for (const std::string& key : sweep.file().also) titles.push_back(key);
  const bool sent = sends(summary);
  for (const std::string& title : {axis_text(sweep, summary) + " within 1 %", std::string("runs"), std::string("not finite"),
                                   std::string("failed"), std::string("step")})
    titles.push_back(title);
  if (sent) titles.emplace_back("sent a step");
  alignment.resize(titles.size(), right);
  Table table(titles, alignment);
  for (std::size_t a = 0; a < summary.arms.size(); ++a) {
    const ArmSummary& arm = summary.arms[a];
    std::vector<std::string> row = {arm_name(sweep, a) + (summary.arms.size() > 1 && summary.best_arm == a ? " *" : ""),
                                    arm.best ? sweep.describe(sweep.points()[*arm.best]) : "-", estimate_cell(arm.at_best),
                                    seeds_cell(arm.at_best)};
    for (std::size_t i = 0; i < sweep.file().also.size(); ++i)
      row.push_back(i < arm.also.size() ? estimate_cell(arm.also[i]) : "-");
    row.push_back(tolerance_cell(arm.tolerance));
    row.push_back(arm.counts.complete == arm.counts.all() ? fmt::format("{}", arm.counts.all())
                                                          : fmt::format("{} of {}", arm.counts.complete, arm.counts.all()));
    row.push_back(whole_cell(arm.counts.not_finite));
    row.push_back(whole_cell(arm.counts.failed));
    row.push_back(arm.best ? core::format_duration(arm.seconds_per_step) : "-");
    if (sent) row.push_back(arm.best ? core::format_bytes(std::llround(arm.sent_per_step)) : "-");
    table.add(std::move(row));
  }
  return table;
}

Table points_table(const Expansion& sweep, const SweepSummary& summary) {
  constexpr Align right = Align::right;
  Table table({"arm", "setting", sweep.file().metric, "seeds", "not finite", "failed", "missing"},
              {Align::left, Align::left, right, right, right, right, right});
  for (std::size_t p = 0; p < summary.points.size(); ++p) {
    const SweepPoint& point = sweep.points()[p];
    const PointSummary& s = summary.points[p];
    if (p > 0 && sweep.points()[p - 1].arm != point.arm) table.rule();
    table.add({arm_name(sweep, point.arm), sweep.describe(point) + (summary.arms[point.arm].best == p ? " *" : ""),
               estimate_cell(s.value), seeds_cell(s.value), whole_cell(s.counts.not_finite), whole_cell(s.counts.failed),
               whole_cell(s.counts.missing)});
  }
  return table;
}

std::vector<std::string> remarks(const Expansion& sweep, const SweepSummary& summary, const Results& results) {
  std::vector<std::string> lines;
  for (std::size_t a = 0; a < summary.arms.size(); ++a) {
    const ArmSummary& arm = summary.arms[a];
    if (!arm.best && arm.counts.missing < arm.counts.all())
      lines.push_back(fmt::format("{}: no setting has a value for every seed.", arm_name(sweep, a)));
    if (arm.at_edge)
      lines.push_back(fmt::format("{}: the best setting, {}, lies at the end of what was tried of {}.", arm_name(sweep, a),
                                  sweep.describe(sweep.points()[*arm.best]), summary.axis));
  }
  for (const auto& [name, result] : results) {
    if (result.record.state == RunState::failed)
      lines.push_back(
          fmt::format("{} failed: {} ({}/{}/output.log)", name, result.record.message, sweep.file().folder, name));
    if (result.record.state == RunState::not_finite)
      lines.push_back(fmt::format("{} is not finite: {}", name, result.record.message));
  }
  return lines;
}

Plot sweep_plot(const Expansion& sweep, const SweepSummary& summary) {
  const SweepFile& file = sweep.file();
  Plot plot{.title = file.title.empty() ? fmt::format("{} of {}", file.metric, file.folder) : file.title,
            .subtitle = "",
            .x_label = "",
            .y_label = metric_label(file.metric),
            .series = {}};
  const bool own = std::ranges::any_of(summary.arms, &ArmSummary::own_seeds);
  const bool several = own || file.seeds.size() > 1;
  const bool lost = std::ranges::any_of(summary.arms, [](const ArmSummary& arm) { return arm.counts.not_finite > 0; });
  plot.subtitle = several ? "mean and standard deviation over seeds" : fmt::format("seed {}", file.seeds.front());
  if (own && !summary.axis.empty()) plot.subtitle += fmt::format("; circles: {} seeds at the best", file.best_seeds.size());
  if (lost) plot.subtitle += "; crosses: not finite";
  return summary.axis.empty() ? plot_over_names(sweep, summary, std::move(plot))
                              : plot_over_axis(sweep, summary, std::move(plot));
}

}  // namespace muonp::launch
