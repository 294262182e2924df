// muonp bench checkpoint: how fast a state is saved and loaded, and how long training stands still for it.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "core/base/clock.h"
#include "core/base/units.h"
#include "core/files/files.h"
#include "launch/bench/timing.h"
#include "launch/commands/bench_command.h"
#include "launch/program/long_work.h"
#include "launch/report/table.h"
#include "launch/train/checkpointing.h"

namespace muonp::launch {

namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ConfigArguments config;
  std::int64_t repeats = 5;
  std::string directory;
  bool json = false;
};

// A folder of its own below the run's, gone at the end.
class BenchFolder {
 public:
  BenchFolder(Session& session, RunConfig& config, const std::string& directory) : session_(session) {
    if (!directory.empty()) config.run.dir = directory;
    config.run.name = "bench-checkpoint";
    path_ = config.directory();
    run_on_rank_zero(session.communicator(), [&] {
      if (core::exists(path_)) core::fail("{} exists; this benchmark makes it, and removes it at its end", path_);
      core::make_directories(path_);
    });
  }
  ~BenchFolder() {
    if (session_.rank() == 0) try {
        core::remove_tree(path_);
      } catch (const core::Error&) {  // what is left behind is named by the next one
      }
  }
  BenchFolder(const BenchFolder&) = delete;
  BenchFolder& operator=(const BenchFolder&) = delete;

 private:
  Session& session_;
  std::string path_;
};

struct Measured {
  std::int64_t bytes = 0;
  std::vector<double> save, background, blocked, longest, load, step, step_while_saving;
};

RunConfig with_saves(RunConfig config, bool background) {
  config.checkpoint.background = background;
  config.checkpoint.every = background ? 1 : 0;
  config.checkpoint.keep = 1;
  config.checkpoint.resume = "auto";
  return config;
}

double seconds_of(Session& session, const std::function<void()>& work) {
  session.communicator().barrier();
  const double start = core::seconds_now();
  work();
  double seconds = core::seconds_now() - start;
  session.communicator().all_reduce(std::span<double>(&seconds, 1), dist::Reduce::max);
  return seconds;
}

// Training stands still for all of it.
void measure_in_line(Session& session, const RunConfig& config, Learner& learner, RunProgress& progress,
                     std::int64_t repeats, Measured& m) {
  const RunConfig saving = with_saves(config, false);
  Checkpointing saves(saving, session, learner, [&](const SaveReport& report) { m.bytes = report.bytes; });
  for (std::int64_t i = 0; i < repeats; ++i) {
    ++progress.step;
    m.save.push_back(seconds_of(session, [&] { saves.save(progress); }));
    saves.finish();
    m.load.push_back(seconds_of(session, [&] {
      const auto resumed = Checkpointing(saving, session, learner).resume();
      MUONP_ASSERT(resumed && resumed->step == progress.step, "another checkpoint than the last one was loaded");
    }));
  }
}

// Steps go on while a copy of the state is written.
void measure_in_background(Session& session, const RunConfig& config, Learner& learner, RunProgress& progress,
                           std::int64_t repeats, Measured& m) {
  const RunConfig saving = with_saves(config, true);
  bool over = true;
  Checkpointing saves(saving, session, learner, [&](const SaveReport& report) {
    over = true;
    m.background.push_back(report.total_seconds);
    m.blocked.push_back(report.blocked_seconds);
    m.longest.push_back(report.longest_seconds);
  });
  std::int64_t number = 0;
  for (std::int64_t i = 0; i < repeats; ++i) {
    m.step.push_back(seconds_of(session, [&] { learner.step(++number, false); }));
    ++progress.step;
    over = false;
    saves.save(progress);
    while (!over) {
      const double seconds = seconds_of(session, [&] { learner.step(++number, false); });
      if (!over) m.step_while_saving.push_back(seconds);
      saves.advance();
    }
    saves.finish();
  }
}

Json quartiles(const std::vector<double>& seconds) {
  if (seconds.empty()) return nullptr;
  const Timing t = timing_of(seconds);
  return {{"median", t.median}, {"lower_quartile", t.lower}, {"upper_quartile", t.upper}};
}

Json as_json(const Measured& m, const Session& session, const Arguments& a) {
  const auto rate = [&](const std::vector<double>& seconds) {
    return static_cast<double>(m.bytes) / timing_of(seconds).median;
  };
  return {{"bytes", m.bytes},
          {"ranks", session.world_size()},
          {"repeats", a.repeats},
          {"save_seconds", quartiles(m.save)},
          {"save_bytes_per_second", rate(m.save)},
          {"load_seconds", quartiles(m.load)},
          {"load_bytes_per_second", rate(m.load)},
          {"background_seconds", quartiles(m.background)},
          {"background_bytes_per_second", rate(m.background)},
          {"blocked_seconds", quartiles(m.blocked)},
          {"longest_block_seconds", quartiles(m.longest)},
          {"step_seconds", quartiles(m.step)},
          {"step_seconds_while_saving", quartiles(m.step_while_saving)}};
}

std::string as_table(const Json& r) {
  Table table({"checkpoint", "median", "quartiles", "bandwidth"}, {Align::left, Align::right, Align::right, Align::right});
  table.caption(fmt::format("{} of {} rank(s)", core::format_bytes(r.at("bytes")), r.at("ranks").get<int>()));
  const auto row = [&](const char* what, const char* key, const char* rate) {
    const Json& q = r.at(key);
    if (q.is_null()) return table.add({what, "", "", ""});
    table.add({what, core::format_duration(q.at("median")),
               fmt::format("{} - {}", core::format_duration(q.at("lower_quartile")),
                           core::format_duration(q.at("upper_quartile"))),
               rate == nullptr ? std::string() : fmt::format("{:.3f} GB/s", r.at(rate).get<double>() * 1e-9)});
  };
  row("save, training stands still", "save_seconds", "save_bytes_per_second");
  row("load, verified", "load_seconds", "load_bytes_per_second");
  row("save in the background", "background_seconds", "background_bytes_per_second");
  row("training stands still for it", "blocked_seconds", nullptr);
  row("at once at most", "longest_block_seconds", nullptr);
  row("a step", "step_seconds", nullptr);
  row("a step while saving", "step_seconds_while_saving", nullptr);
  return table.render();
}

int run(Session& session, const Arguments& a, const RunConfig& given) {
  RunConfig config = resolve(given, session.communicator());
  const BenchFolder folder(session, config, a.directory);
  Learner learner(config, session);
  learner.initialize();
  learner.step(0, false);
  RunProgress progress;
  Measured measured;
  measure_in_line(session, config, learner, progress, a.repeats, measured);
  measure_in_background(session, config, learner, progress, a.repeats, measured);
  const Json result = as_json(measured, session, a);
  session.log().info("{}", a.json ? result.dump(2) : as_table(result));
  return 0;
}

}  // namespace

void add_bench_checkpoint_command(CLI::App& bench, Context& context) {
  CLI::App* command = bench.add_subcommand(
      "checkpoint", "Saving and loading a configuration's state: bandwidth, time that training stands still");
  auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config);
  add_integer_option(*command, "--repeats", a->repeats, kRepeats, "Saves and loads measured");
  command
      ->add_option("--directory", a->directory,
                   "Where to save; by default run.dir. The folder bench-checkpoint in it is made and removed")
      ->type_name("FOLDER");
  command->add_flag("--json", a->json, "Print a JSON object");
  command->footer(
      "bandwidth = bytes of all ranks' files / the slowest rank's median time. Loading verifies checksums, of files that "
      "the\n"
      "system still has in memory.\n"
      "Examples:\n"
      "  muonp bench checkpoint configs/quickstart.yaml\n"
      "  mpirun -np 2 muonp bench checkpoint configs/quickstart.yaml --directory /mnt/shared --json");
  command->callback([a, &context] {
    RunConfig config = load_run_config(a->config.file, a->config.overrides);
    context.session = session_settings(config, "bench checkpoint");
    context.session.alike.push_back({"--repeats", std::to_string(a->repeats)});
    context.session.alike.push_back({"--directory", a->directory});
    config.run.steps = std::max<std::int64_t>(config.run.steps, 1 << 20);  // steps go on as long as saving takes
    context.run = [a, config](Session& session) { return run(session, *a, config); };
  });
}

}  // namespace muonp::launch
