// muonp train: the program's main job.
#include <CLI/CLI.hpp>

#include "launch/commands/cli.h"
#include "launch/train/metrics_observer.h"
#include "launch/train/report_observer.h"
#include "launch/train/terminal.h"
#include "launch/train/trainer.h"

namespace muonp::launch {
namespace {

std::vector<std::unique_ptr<TrainObserver>> observers(const RunConfig& config, Session& session) {
  std::vector<std::unique_ptr<TrainObserver>> all;
  if (session.rank() != 0) return all;
  if (!session.device_note().empty()) session.log().info("{}", session.device_note());
  all.push_back(std::make_unique<MetricsObserver>(config.directory() + "/metrics.jsonl"));
  if (config.log.report) all.push_back(std::make_unique<ReportObserver>(config.directory()));
  all.push_back(std::make_unique<TerminalObserver>(config, session.log(), progress_options(session, stdout)));
  return all;
}

int run(Session& session, const RunConfig& config) {
  const StopSignals signals(session.rank() == 0);
  try {
    const RunConfig resolved = resolve(config, session.communicator());
    Trainer trainer(resolved, session, observers(resolved, session));
    trainer.run(signals);
  } catch (const Interrupted&) {
    session.log().info("Stopped by {} before the first step; the same command starts again.",
                       signals.requested() ? signals.name() : "another rank");
  }
  return 0;
}

}  // namespace

void add_train_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("train", "Train a model; run it under mpirun for several ranks");
  auto arguments = std::make_shared<ConfigArguments>();
  add_config_arguments(*command, *arguments);
  auto skip_bad = std::make_shared<bool>(false);
  command->add_flag("--skip-bad", *skip_bad, "Leave lines of JSONL out that are no valid example (data.skip_bad: true)");
  auto report = std::make_shared<bool>(false);
  command->add_flag("--report", *report, "Keep report.html in the run's folder up to date (log.report: true)");
  command->footer(
      "Goes on from the run's newest checkpoint, if there is one (checkpoint.resume). Ctrl-C, SIGTERM "
      "and SIGHUP save a\n"
      "checkpoint and end with status 0. Writes metrics.jsonl, config.resolved.yaml and checkpoints/ to "
      "<run.dir>/<run.name>.\n"
      "Examples:\n"
      "  muonp train configs/quickstart.yaml\n"
      "  mpirun -np 4 muonp train configs/quickstart.yaml --set optimizer.matrices.p=1/3 --set "
      "parallel.zero=2\n"
      "  muonp config --reference      every key of CONFIG");
  command->callback([arguments, skip_bad, report, &context] {
    RunConfig config = load_run_config(arguments->file, arguments->overrides);
    config.data.skip_bad = config.data.skip_bad || *skip_bad;
    config.log.report = config.log.report || *report;
    context.session = session_settings(config, "train");
    context.run = [config](Session& session) { return run(session, config); };
  });
}

}  // namespace muonp::launch
