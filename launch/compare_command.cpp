// muonp compare: runs side by side, as a table and as curves.
#include <CLI/CLI.hpp>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/files.h"
#include "launch/cli.h"
#include "launch/run_history.h"
#include "launch/svg_plot.h"
#include "launch/table.h"
#include "launch/units.h"

namespace muonp::launch {
namespace {

struct Arguments {
  std::vector<std::string> runs;
  std::string svg, metric = "val_loss", axis = "step", title;
};

const std::map<std::string, std::pair<RunAxis, std::string>> kAxes = {
    {"step", {RunAxis::step, "optimizer steps"}},
    {"tokens", {RunAxis::tokens, "tokens"}},
    {"seconds", {RunAxis::seconds, "training time [s]"}},
    {"sent", {RunAxis::sent, "sent per rank [MB]"}}};

std::string axis_label(const std::string& metric) {
  if (metric == "val_loss") return "validation loss [nats per token]";
  if (metric == "loss") return "training loss [nats per token]";
  return metric;
}

std::string value_cell(double value) { return std::isfinite(value) ? fmt::format("{:.4f}", value) : "-"; }

// Runs of one name are told apart by their paths.
void make_names_unique(std::vector<RunHistory>& runs, const std::vector<std::string>& paths) {
  std::map<std::string, int> uses;
  for (const RunHistory& run : runs) ++uses[run.name];
  for (std::size_t i = 0; i < runs.size(); ++i)
    if (uses[runs[i].name] > 1) runs[i].name = paths[i];
}

std::string as_table(const Arguments& a, const std::vector<RunHistory>& runs,
                     const std::vector<RunSummary>& summaries) {
  constexpr Align right = Align::right;
  Table table({"run", "steps", "final " + a.metric, "best " + a.metric, "at step", "train loss", "time", "tokens/s",
               "sent per rank"},
              {Align::left, right, right, right, right, right, right, right, right});
  double best = INFINITY;
  for (const RunSummary& s : summaries) best = std::min(best, s.best_value);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const RunSummary& s = summaries[i];
    table.add({runs[i].name + (runs.size() > 1 && s.best_value == best ? " *" : ""),
               fmt::format("{}", s.steps), value_cell(s.final_value), value_cell(s.best_value),
               fmt::format("{}", s.best_step), value_cell(s.train_loss),
               std::isfinite(s.seconds) ? format_duration(s.seconds) : "-",
               std::isfinite(s.tokens / s.seconds) ? format_count(s.tokens / s.seconds) : "-",
               std::isfinite(s.sent_bytes) ? format_bytes(static_cast<std::int64_t>(s.sent_bytes)) : "-"});
  }
  return table.render();
}

constexpr std::size_t kMostWithTraining = 8;  // curves of training that can be told apart

Plot as_plot(const Arguments& a, const std::vector<RunHistory>& runs,
             const std::vector<RunSummary>& summaries) {
  const auto& [axis, label] = kAxes.at(a.axis);
  const bool loss = a.metric == "val_loss";
  const bool training_too = loss && runs.size() <= kMostWithTraining;
  Plot plot{a.title, "", label, axis_label(a.metric), {}, axis == RunAxis::sent};
  if (plot.title.empty())
    plot.title =
        fmt::format("{} of {} run{}", loss ? "Loss" : a.metric, runs.size(), runs.size() == 1 ? "" : "s");
  plot.subtitle = !loss          ? "numbers: best value"
                  : training_too ? "strong: validation, light: training; numbers: best validation loss"
                                 : "validation; numbers: best validation loss";
  for (std::size_t i = 0; i < runs.size(); ++i) {
    PlotSeries series{
        runs[i].name, fmt::format("{:.3f}", summaries[i].best_value), curve(runs[i], a.metric, axis), {}};
    if (training_too) series.light = curve(runs[i], "loss", axis);
    if (axis == RunAxis::sent)
      for (auto* points : {&series.strong, &series.light})
        for (PlotPoint& p : *points) p.x *= 1e-6;
    plot.series.push_back(std::move(series));
  }
  return plot;
}

int run(Session& session, const Arguments& a) {
  std::vector<RunHistory> runs;
  std::vector<RunSummary> summaries;
  for (const std::string& path : a.runs) {
    runs.push_back(read_run(path));
    summaries.push_back(summarize(runs.back(), a.metric));
  }
  make_names_unique(runs, a.runs);
  session.log().info("{}", as_table(a, runs, summaries));
  if (a.svg.empty()) return 0;
  core::write_file(a.svg, render_svg(as_plot(a, runs, summaries)));
  session.log().info("curves: {}", a.svg);
  return 0;
}

}  // namespace

void add_compare_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("compare", "Compare runs: a table of losses and speed, and their curves");
  auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->runs, "Folders of runs, or their metrics.jsonl")->required();
  command->add_option("--svg", a->svg, "Draw the curves into this file")->type_name("FILE");
  command->add_option("--metric", a->metric, "What is compared; smaller is better")->capture_default_str();
  command->add_option("--x", a->axis, "What the curves are drawn over")
      ->capture_default_str()
      ->check(CLI::IsMember({"step", "tokens", "seconds", "sent"}));
  command->add_option("--title", a->title, "Title of the drawing");
  command->footer(
      "The best run is marked with *. With up to eight runs, losses of training are drawn behind those of validation.\n"
      "Examples:\n"
      "  muonp compare runs/muonp-1-2 runs/muon runs/adamw --svg losses.svg\n"
      "  muonp compare runs/* --metric loss --x seconds --svg speed.svg\n"
      "  muonp compare runs/compressed-* --x sent --svg bytes.svg");
  command->callback([a, &context] { context.run = [a](Session& session) { return run(session, *a); }; });
}

}  // namespace muonp::launch
