// muonp sweep: many runs of one configuration, compared.
#include <CLI/CLI.hpp>

#include "core/base/error.h"
#include "core/files/files.h"
#include "launch/commands/cli.h"
#include "launch/sweep/presentation.h"
#include "launch/sweep/runner.h"
#include "launch/train/run_lock.h"

namespace muonp::launch {
namespace {

struct Arguments {
  std::string file, folder;
  std::vector<std::string> overrides;
  bool dry = false, report = false, all = false, json = false;
};

Expansion read_sweep(const Arguments& a) {
  SweepFile file = read_sweep_file(a.file, a.overrides);
  if (!a.folder.empty()) file.folder = a.folder;
  return Expansion(std::move(file));
}

// Those that best.seeds adds to an arm, wherever its best turns out to be.
std::vector<SweepRun> runs_added_at_best(const Expansion& sweep, std::size_t point) {
  std::vector<SweepRun> added = sweep.runs_at_best(point);
  std::erase_if(added, [&](const SweepRun& run) {
    return std::ranges::any_of(sweep.runs(), [&](const SweepRun& r) { return r.name == run.name; });
  });
  return added;
}

std::size_t first_point(const Expansion& sweep, std::size_t arm) {
  return static_cast<std::size_t>(std::ranges::find(sweep.points(), arm, &SweepPoint::arm) - sweep.points().begin());
}

const char* state_text(RunState state) {
  switch (state) {
    case RunState::complete:
      return "complete";
    case RunState::not_finite:
      return "not finite";
    case RunState::failed:
      return "failed, to be run again";
    case RunState::unfinished:
      return "unfinished";
    case RunState::fresh:
      break;
  }
  return "to be run";
}

int list_runs(const Expansion& sweep) {
  Table table({"run", "arm", "setting", "seed", "steps", "state"},
              {Align::left, Align::left, Align::left, Align::right, Align::right, Align::left});
  for (const SweepRun& run : sweep.runs()) {
    const SweepPoint& point = sweep.points()[run.point];
    table.add({run.name, sweep.file().arms[point.arm].name, sweep.describe(point), fmt::format("{}", run.seed),
               fmt::format("{}", run.steps), state_text(read_record(run).state)});
  }
  fmt::print("{}\n", table.render());
  std::size_t added = 0;
  for (std::size_t arm = 0; arm < sweep.file().arms.size(); ++arm)
    added += runs_added_at_best(sweep, first_point(sweep, arm)).size();
  if (added > 0) fmt::print("And at the best setting of each arm, for best.seeds: {} runs.\n", added);
  fmt::print("{} runs in {}, {} side by side.\n", sweep.runs().size() + added, sweep.file().folder,
             slots_for(sweep.file(), sweep.runs()).count);
  return 0;
}

bool is_over(const SweepRun& run, const Results& results) {
  const auto found = results.find(run.name);
  return found != results.end() && is_over(found->second.record.state);
}

// Of all runs, those at the best settings as long as they would be at the first.
SweepProgress progress_of(const Expansion& sweep, const Results& results, ProgressOptions options) {
  SweepProgress::Amount total, done;
  const auto add = [&](const std::vector<SweepRun>& runs) {
    for (const SweepRun& run : runs) {
      total.steps += run.steps, ++total.runs;
      if (is_over(run, results)) done.steps += run.steps, ++done.runs;
    }
  };
  add(sweep.runs());
  for (std::size_t arm = 0; arm < sweep.file().arms.size(); ++arm) {
    const std::optional<std::size_t> best = best_point(sweep, results, arm);
    add(runs_added_at_best(sweep, best ? *best : first_point(sweep, arm)));
  }
  return SweepProgress(total, done, sweep.file(), std::move(options));
}

void run_all(const Expansion& sweep, const Slots& slots, ProgressOptions options) {
  const StopSignals signals(true);
  SweepProgress progress = progress_of(sweep, read_results(sweep), std::move(options));
  Runner runner(sweep.file(), slots, signals, progress);
  runner.run(sweep.runs());
  const Results results = read_results(sweep);
  std::vector<SweepRun> at_best;
  for (std::size_t arm = 0; arm < sweep.file().arms.size(); ++arm)
    if (const auto best = best_point(sweep, results, arm))
      for (SweepRun& run : runs_added_at_best(sweep, *best)) at_best.push_back(std::move(run));
  for (const SweepRun& run : at_best) read_record(run);  // an Error before any of them is started
  SweepProgress::Amount left;
  for (const SweepRun& run : at_best)
    if (!is_over(run, results)) left.steps += run.steps, ++left.runs;
  progress.set_left(left);
  runner.run(at_best);
}

// Empty where there is nothing to draw yet.
std::string draw(const Expansion& sweep, const SweepSummary& summary) {
  if (!summary.best_arm) return "";
  const std::string file = sweep.file().folder + "/sweep.svg";
  core::write_file(file, render_svg(sweep_plot(sweep, summary)));
  return file;
}

int report(const Arguments& a, const Expansion& sweep) {
  const Results results = read_results(sweep);
  const SweepSummary summary = summarize(sweep, results);
  const std::string figure = draw(sweep, summary);
  const bool failed = std::ranges::any_of(results, [](const auto& r) { return r.second.record.state == RunState::failed; });
  if (a.json) {
    fmt::print("{}", sweep_json(sweep, summary, results, figure));
  } else {
    const Table table = a.all ? points_table(sweep, summary) : arms_table(sweep, summary);
    fmt::print("{}\n", table.render());
    for (const std::string& line : remarks(sweep, summary, results)) fmt::print("{}\n", line);
    if (!figure.empty()) fmt::print("figure: {}\n", figure);
  }
  return failed || !summary.best_arm ? kStatusError : 0;
}

int run(Session& session, const Arguments& a) {
  const Expansion sweep = read_sweep(a);
  axis_of(sweep);
  for (const SweepRun& run : sweep.runs()) read_record(run);
  if (a.dry) return list_runs(sweep);
  if (a.report) return report(a, sweep);
  std::FILE* out = a.json ? stderr : stdout;
  const RunLock lock(
      sweep.file().folder, [&](const std::string& line) { fmt::print(out, "{}\n", line); }, RunLock::kPatience, "folder");
  run_all(sweep, slots_for(sweep.file(), sweep.runs()), progress_options(session, out));
  return report(a, sweep);
}

constexpr const char* kFooter =
    "FILE says the configuration that runs start from, what is tried, and what is compared (docs/sweep.md):\n"
    "  base: configs/quickstart.yaml\n"
    "  set: {run.steps: 100}\n"
    "  seeds: [1]\n"
    "  best: {seeds: [1, 2, 3]}          # more seeds at the best of each arm\n"
    "  arms:\n"
    "    - {name: p = 0, set: {optimizer.matrices.p: 0}, grid: {optimizer.matrices.lr: [0.0025, 0.005, 0.01]}}\n"
    "    - {name: AdamW, set: {optimizer.matrices.rule: adamw},\n"
    "       random: {count: 6, log: {optimizer.matrices.lr: [1e-5, 1e-3]}}}\n"
    "Runs that are complete are not run again: after Ctrl-C, or a kill, the same command goes on. Status 1 if a run "
    "failed.\n"
    "Examples:\n"
    "  muonp sweep configs/sweep-quickstart.yaml\n"
    "  muonp sweep configs/sweep-learning.yaml --dry\n"
    "  muonp sweep configs/sweep-learning.yaml --set run.steps=20 --folder runs/learning-20\n"
    "  muonp sweep configs/sweep-learning.yaml --report --all";

}  // namespace

void add_sweep_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("sweep", "Train with many settings and seeds, and compare what comes out");
  auto a = std::make_shared<Arguments>();
  command->add_option("FILE", a->file, "YAML file of the sweep")->required();
  command->add_option("--set", a->overrides, "Sets a value of every run: section.key=value (repeatable)")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command->add_option("--folder", a->folder, "Where the runs go, in the place of the file's 'folder'");
  command->add_flag("--dry", a->dry, "List the runs, and run none");
  command->add_flag("--report", a->report, "Table and figure of what is there, and run nothing");
  command->add_flag("--all", a->all, "A row for every setting in the table, not for the best of each arm alone");
  command->add_flag("--json", a->json, "Everything as JSON; progress goes to standard error");
  command->footer(kFooter);
  command->callback([a, &context] {
    context.session.device = "cpu";
    context.session.threads = 1;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
