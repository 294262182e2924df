// muonp report: one page about one run, or about several side by side.
#include <CLI/CLI.hpp>

#include "core/base/error.h"
#include "core/base/units.h"
#include "core/files/files.h"
#include "launch/commands/cli.h"
#include "launch/html/page.h"
#include "launch/report/time_text.h"
#include "launch/train/run_lock.h"

namespace muonp::launch {
namespace {

struct Arguments {
  std::vector<std::string> runs;
  std::string out;
};

int run(Session& session, const Arguments& a) {
  std::vector<RunRecord> records;
  for (const std::string& path : a.runs) records.push_back(read_run_record(path));
  std::vector<ReportedRun> runs;
  for (const RunRecord& record : records) runs.push_back({&record, state_of(record, RunLock::holds(record.folder))});
  label_runs(runs);
  const std::string own = records.front().folder + (runs.size() == 1 ? "/report.html" : "/comparison.html");
  const std::string out = a.out.empty() ? own : a.out;
  const std::string page = render_report(runs, {.refreshed = time_text()});
  core::write_file(out, page);
  session.log().info("report: {} ({})", out, core::format_bytes(std::ssize(page)));
  return 0;
}

}  // namespace

void add_report_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("report", "A page about a run, or about several side by side");
  auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->runs, "Folders of runs, or their metrics.jsonl")->required();
  command
      ->add_option("--out", a->out,
                   "The page; else report.html in the run's folder, of several runs comparison.html in that "
                   "of the first")
      ->type_name("FILE");
  command->footer(
      "The page is one file that needs no network. 'muonp train --report' keeps it up to date while a run goes on.\n"
      "Examples:\n"
      "  muonp report runs/quickstart-p-1-2\n"
      "  muonp report runs/muonp-1-2 runs/muon runs/adamw --out comparison.html");
  command->callback([a, &context] { context.run = [a](Session& session) { return run(session, *a); }; });
}

}  // namespace muonp::launch
