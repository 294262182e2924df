// muonp export-metrics: a run's numbers for other tools.
#include <CLI/CLI.hpp>

#include "core/base/error.h"
#include "launch/commands/cli.h"
#include "launch/records/metrics_export.h"
#include "launch/records/run_record.h"

namespace muonp::launch {
namespace {

struct Arguments {
  std::string run, tensorboard, csv;
};

int run(Session& session, const Arguments& a) {
  const std::string metrics = metrics_file(a.run);
  if (!a.csv.empty()) {
    const ExportReport done = export_csv(metrics, a.csv);
    session.log().info("{}: {} steps, {} columns", done.file, done.rows, done.columns);
  }
  if (!a.tensorboard.empty()) {
    const ExportReport done = export_tensorboard(metrics, a.tensorboard);
    session.log().info("{}: {} events, {} tags; tensorboard --logdir {}", done.file, done.rows, done.columns, a.tensorboard);
  }
  return 0;
}

}  // namespace

void add_export_metrics_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("export-metrics", "A run's metrics as CSV or as an event file of TensorBoard");
  auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->run, "Folder of the run, or its metrics.jsonl")->required();
  command->add_option("--tensorboard", a->tensorboard, "Write an event file into this folder")->type_name("DIR");
  command->add_option("--csv", a->csv, "Write this file: a row a step, a column a key")->type_name("FILE");
  command->footer(
      "docs/report.md has the columns.\n"
      "Examples:\n"
      "  muonp export-metrics runs/quickstart-p-1-2 --csv metrics.csv\n"
      "  muonp export-metrics runs/quickstart-p-1-2 --tensorboard events/quickstart-p-1-2");
  command->callback([a, &context] {
    if (a->csv.empty() && a->tensorboard.empty())
      throw CLI::ValidationError("a format is needed", "--csv FILE, --tensorboard DIR, or both");
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
