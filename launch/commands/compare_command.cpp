// muonp compare: runs side by side, as a table and as curves.
#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/units.h"
#include "core/files/files.h"
#include "launch/commands/cli.h"
#include "launch/commands/spectra_table.h"
#include "launch/report/svg_plot.h"
#include "launch/report/table.h"
#include "launch/train/run_history.h"
#include "launch/train/spectra_line.h"

namespace muonp::launch {
namespace {

struct Arguments {
  std::vector<std::string> runs;
  std::string svg, metric = "val_loss", axis = "step", title;
};

const std::map<std::string, std::pair<RunAxis, std::string>> kAxes = {{"step", {RunAxis::step, "optimizer steps"}},
                                                                      {"tokens", {RunAxis::tokens, "tokens"}},
                                                                      {"seconds", {RunAxis::seconds, "training time [s]"}},
                                                                      {"sent", {RunAxis::sent, "sent per rank [MB]"}}};

std::string value_cell(const std::optional<double>& value) {
  if (!value) return "-";
  return std::isfinite(*value) ? fmt::format("{:.4f}", *value) : "not finite";
}

std::string whole_cell(const std::optional<double>& value) { return value ? fmt::format("{}", *value) : "-"; }

// Runs of one name are told apart by their paths.
void make_names_unique(std::vector<RunHistory>& runs, const std::vector<std::string>& paths) {
  std::map<std::string, int> uses;
  for (const RunHistory& run : runs) ++uses[run.name];
  for (std::size_t i = 0; i < runs.size(); ++i)
    if (uses[runs[i].name] > 1) runs[i].name = paths[i];
}

std::string as_table(const Arguments& a, const std::vector<RunHistory>& runs, const std::vector<RunSummary>& summaries) {
  constexpr Align right = Align::right;
  Table table({"run", "steps", "final " + a.metric, "best " + a.metric, "at step", "train loss", "time", "tokens/s",
               "sent per rank"},
              {Align::left, right, right, right, right, right, right, right, right});
  double best = INFINITY;
  for (const RunSummary& s : summaries) best = std::min(best, s.best_value.value_or(best));
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const RunSummary& s = summaries[i];
    const double rate = s.tokens && s.seconds ? *s.tokens / *s.seconds : NAN;
    table.add({runs[i].name + (runs.size() > 1 && s.best_value == best ? " *" : ""), whole_cell(s.steps),
               value_cell(s.final_value), value_cell(s.best_value), whole_cell(s.best_step), value_cell(s.train_loss),
               s.seconds ? core::format_duration(*s.seconds) : "-", std::isfinite(rate) ? core::format_count(rate) : "-",
               s.sent_bytes ? core::format_bytes(static_cast<std::int64_t>(*s.sent_bytes)) : "-"});
  }
  return table.render();
}

std::string legend_of(const RunSummary& s) {
  if (s.best_value) return fmt::format("{:.3f}", *s.best_value) + (std::isfinite(*s.final_value) ? "" : ", then not finite");
  return s.final_value ? "not finite" : "no value yet";
}

constexpr std::size_t kMostWithTraining = 4;  // curves of training, noisy as they are, that can be told apart

Plot as_plot(const Arguments& a, const std::vector<RunHistory>& runs, const std::vector<RunSummary>& summaries) {
  const auto& [axis, label] = kAxes.at(a.axis);
  const bool loss = a.metric == "val_loss";
  const bool training_too = loss && runs.size() <= kMostWithTraining;
  Plot plot{a.title, "", label, metric_label(a.metric), {}, axis == RunAxis::sent};
  if (plot.title.empty())
    plot.title = fmt::format("{} of {} run{}", loss ? "Loss" : a.metric, runs.size(), runs.size() == 1 ? "" : "s");
  plot.subtitle = !loss          ? "numbers: best value"
                  : training_too ? "strong: validation, light: training; numbers: best validation loss"
                                 : "validation; numbers: best validation loss";
  for (std::size_t i = 0; i < runs.size(); ++i) {
    PlotSeries series{runs[i].name, legend_of(summaries[i]), curve(runs[i], a.metric, axis), {}};
    if (training_too) series.light = curve(runs[i], "loss", axis);
    if (axis == RunAxis::sent)
      for (auto* points : {&series.strong, &series.light})
        for (PlotPoint& p : *points) p.x *= 1e-6;
    plot.series.push_back(std::move(series));
  }
  return plot;
}

// A metric that no run can have is a slip; the losses may still be to come.
void require_metric(const std::string& metric, const std::vector<RunHistory>& runs) {
  std::set<std::string> keys = {"val_loss", "loss"};
  for (const RunHistory& run : runs)
    for (const MetricNumbers& line : run.lines)
      for (const auto& [key, value] : line) keys.insert(key);
  if (keys.contains(metric)) return;
  const auto measured = std::erase_if(keys, [](const std::string& key) { return key.starts_with(kSpectraPrefix); });
  core::fail("no line has '{}'; there are {}{}", metric, fmt::join(keys, ", "),
             measured > 0 ? " and spectra.KIND.OF.FIGURE (docs/diagnostics.md)" : "");
}

// A run that cannot be read has a row like the others, and its error below the table.
int run(Session& session, const Arguments& a) {
  std::vector<RunHistory> runs;
  std::vector<RunSummary> summaries;
  std::vector<std::string> errors;
  for (const std::string& path : a.runs) {
    try {
      runs.push_back(read_run(path));
    } catch (const core::Error& error) {
      runs.push_back({run_name(path), {}});
      errors.emplace_back(error.what());
    }
    summaries.push_back(summarize(runs.back(), a.metric));
  }
  if (errors.size() < runs.size()) require_metric(a.metric, runs);
  make_names_unique(runs, a.runs);
  session.log().info("{}", as_table(a, runs, summaries));
  if (const std::string spectra = spectra_table(runs); !spectra.empty()) session.log().info("{}", spectra);
  for (const std::string& error : errors) session.log().error(error);
  const int status = errors.empty() ? 0 : kStatusError;
  if (a.svg.empty()) return status;
  core::write_file(a.svg, render_svg(as_plot(a, runs, summaries)));
  session.log().info("curves: {}", a.svg);
  return status;
}

}  // namespace

void add_compare_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("compare", "Compare runs: a table of losses and speed, and their curves");
  auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->runs, "Folders of runs, or their metrics.jsonl")->required();
  command->add_option("--svg", a->svg, "Draw the curves into this file")->type_name("FILE");
  command->add_option("--metric", a->metric, "What is compared; smaller is better")->capture_default_str();
  command->add_option("--x", a->axis, "What the curves are drawn over")
      ->capture_default_str()
      ->check(CLI::IsMember({"step", "tokens", "seconds", "sent"}));
  command->add_option("--title", a->title, "Title of the drawing");
  command->footer(
      "The best run is marked with *; - is what is not known yet. With up to four runs, losses of training are drawn "
      "behind those of validation.\n"
      "Examples:\n"
      "  muonp compare runs/muonp-1-2 runs/muon runs/adamw --svg losses.svg\n"
      "  muonp compare runs/* --metric loss --x seconds --svg speed.svg\n"
      "  muonp compare runs/compressed-* --x sent --svg bytes.svg\n"
      "Runs with log.spectra_every have a second table: what the singular values were at last.");
  command->callback([a, &context] { context.run = [a](Session& session) { return run(session, *a); }; });
}

}  // namespace muonp::launch
