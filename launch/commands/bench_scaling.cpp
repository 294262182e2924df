// muonp bench scaling: steps of one configuration on more and more ranks of this host, each in processes of its own.
#include <fmt/ranges.h>
#include <sys/wait.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/processors.h"
#include "core/base/units.h"
#include "core/config/config_values.h"
#include "launch/bench/timing.h"
#include "launch/commands/bench_command.h"
#include "launch/report/table.h"
#include "launch/train/learner.h"

namespace muonp::launch {

namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ConfigArguments config;
  std::vector<std::int64_t> ranks = {1, 2};
  std::vector<std::string> variants;  // "KEY=VALUE[ KEY=VALUE...]"
  std::string launcher = "mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1", kind = "both";
  std::int64_t repeats = 5, rounds = 3, threads = 1;
  bool share = false, json = false;

  // That so many ranks keep busy.
  double processors(std::int64_t of_ranks) const {
    return static_cast<double>(std::min<std::int64_t>(of_ranks * threads, core::processors().usable()));
  }
};

std::string quoted(const std::string& word) {
  std::string text;
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return fmt::format("'{}'", text);
}

// Standard output of a command; Error with its last lines where it fails.
std::string output_of(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) core::fail("{} cannot be started", command);
  std::string output;
  char part[4096];
  for (std::size_t n = 0; (n = std::fread(part, 1, sizeof part, pipe)) > 0;) output.append(part, n);
  const int status = pclose(pipe);
  if (status != 0)
    core::fail("{} ended with status {}:\n{}", command, WIFEXITED(status) ? WEXITSTATUS(status) : status,
               output.substr(output.size() > 2000 ? output.size() - 2000 : 0));
  return output;
}

struct Point {  // what is compared
  bool weak = false;
  std::string variant;
  std::int64_t ranks = 1;
  auto operator<=>(const Point&) const = default;
};

struct Seen {  // of each round: medians of its steps
  std::vector<double> step, optimizer, communication, spectral, tokens;
};

std::vector<std::string> settings_of(const std::string& variant) {
  std::vector<std::string> settings;
  std::istringstream words(variant);
  for (std::string word; words >> word;) settings.push_back(word);
  return settings;
}

std::string command_of(const Arguments& a, const RunConfig& config, const Point& point) {
  const std::int64_t batch = point.weak ? config.data.batch * point.ranks : config.data.batch;
  std::string command =
      fmt::format("{} -np {} {} bench step {} --json --repeats {}", a.launcher, point.ranks,
                  quoted(std::filesystem::read_symlink("/proc/self/exe").string()), quoted(a.config.file), a.repeats);
  const auto set = [&](const std::string& value) { command += " --set " + quoted(value); };
  for (const std::string& value : a.config.overrides) set(value);
  set(fmt::format("data.batch={}", batch));
  set(fmt::format("parallel.threads={}", a.threads));
  for (const std::string& value : settings_of(point.variant)) set(value);
  return command;
}

void measure(const Arguments& a, const RunConfig& config, const Point& point, Seen& seen) {
  const std::string output = output_of(command_of(a, config, point));
  const std::size_t begin = output.find("{\n");
  if (begin == std::string::npos) core::fail("muonp bench step printed no JSON:\n{}", output);
  const Json r = Json::parse(output.substr(begin, output.rfind('}') + 1 - begin));
  const double step = r.at("seconds_median");
  seen.step.push_back(step);
  seen.optimizer.push_back(step - r.at("forward_seconds").get<double>() - r.at("backward_seconds").get<double>());
  seen.communication.push_back(r.at("communication_seconds"));
  seen.spectral.push_back(r.at("spectral_seconds"));
  seen.tokens.push_back(r.at("tokens_per_second"));
}

// Rounds one after the other, each with every point, so that what else the machine does meets all alike.
std::map<Point, Seen> measure_all(const Arguments& a, const RunConfig& config) {
  std::vector<Point> points;
  for (const bool weak : {false, true}) {
    if (a.kind == (weak ? "strong" : "weak")) continue;
    for (const std::int64_t ranks : a.ranks)
      for (const std::string& variant : a.variants) points.push_back({weak, variant, ranks});
  }
  std::map<Point, Seen> seen;
  for (std::int64_t round = 0; round < a.rounds; ++round)
    for (const Point& point : points) measure(a, config, point, seen[point]);
  return seen;
}

// Work done in a processor's second, as a share of that at the smallest number of ranks.
double efficiency(const std::map<Point, Seen>& seen, const Arguments& a, const Point& point,
                  std::vector<double> Seen::*what) {
  const auto least = std::ranges::find_if(
      seen, [&](const auto& other) { return other.first.weak == point.weak && other.first.variant == point.variant; });
  const double before = timing_of(least->second.*what).median, now = timing_of(seen.at(point).*what).median;
  const double work = point.weak ? static_cast<double>(point.ranks) / static_cast<double>(least->first.ranks) : 1;
  return work * before * a.processors(least->first.ranks) / (now * a.processors(point.ranks));
}

Json as_json(const std::map<Point, Seen>& seen, const Arguments& a) {
  Json rows = Json::array();
  for (const auto& [point, s] : seen) {
    const Timing step = timing_of(s.step), optimizer = timing_of(s.optimizer);
    rows.push_back({{"scaling", point.weak ? "weak" : "strong"},
                    {"set", point.variant},
                    {"ranks", point.ranks},
                    {"processors", a.processors(point.ranks)},
                    {"step_seconds", step.median},
                    {"step_seconds_lower_quartile", step.lower},
                    {"step_seconds_upper_quartile", step.upper},
                    {"efficiency", efficiency(seen, a, point, &Seen::step)},
                    {"optimizer_seconds", optimizer.median},
                    {"optimizer_efficiency", efficiency(seen, a, point, &Seen::optimizer)},
                    {"communication_seconds", timing_of(s.communication).median},
                    {"spectral_seconds", timing_of(s.spectral).median},
                    {"tokens_per_second", timing_of(s.tokens).median}});
  }
  return {{"threads", a.threads}, {"repeats", a.repeats}, {"rounds", a.rounds}, {"results", rows}};
}

std::string as_table(const Json& json) {
  Table table({"scaling", "set", "ranks", "step", "efficiency", "optimizer", "efficiency", "communication", "tokens/s"},
              {Align::left, Align::left, Align::right, Align::right, Align::right, Align::right, Align::right, Align::right,
               Align::right});
  for (const Json& r : json.at("results"))
    table.add({r.at("scaling"), r.at("set"), std::to_string(r.at("ranks").get<int>()),
               core::format_duration(r.at("step_seconds")), core::format_percent(r.at("efficiency")),
               core::format_duration(r.at("optimizer_seconds")), core::format_percent(r.at("optimizer_efficiency")),
               core::format_duration(r.at("communication_seconds")), core::format_count(r.at("tokens_per_second"))});
  return table.render();
}

// More threads than processors share them, and times say nothing.
void require_processors(const Arguments& a) {
  if (a.share) return;
  const std::int64_t most = *std::ranges::max_element(a.ranks), usable = core::processors().usable();
  if (most * a.threads > usable)
    core::fail(
        "--ranks {} with --threads {}: {} threads where {} are kept busy ({}); what is timed would share processors "
        "(--share-processors allows it)",
        most, a.threads, most * a.threads, usable, core::processors().text());
}

int run(Session& session, Arguments a) {
  require_processors(a);
  const RunConfig config = load_run_config(a.config.file, a.config.overrides);
  if (a.variants.empty()) a.variants = {""};
  for (const std::string& variant : a.variants) {  // an Error of the last one before the first is measured
    std::vector<std::string> settings = a.config.overrides;
    for (const std::string& value : settings_of(variant)) settings.push_back(value);
    load_run_config(a.config.file, settings);
  }
  for (const std::int64_t ranks : a.ranks) make_batch_plan(config.data, static_cast<int>(ranks));
  const Json json = as_json(measure_all(a, config), a);
  session.log().info("{}", a.json ? json.dump(2) : as_table(json));
  return 0;
}

}  // namespace

void add_bench_scaling_command(CLI::App& bench, Context& context) {
  CLI::App* command =
      bench.add_subcommand("scaling", "Steps of a configuration on several numbers of ranks of this host, weak and strong");
  auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config);
  command->add_option("--ranks", a->ranks, "Numbers of ranks")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536))
      ->type_name("N,...");
  command->add_option("--kind", a->kind, "strong: data.batch is shared out; weak: each rank has data.batch; both")
      ->check(CLI::IsMember({"strong", "weak", "both"}));
  command->add_option("--compare", a->variants, "Settings to compare, KEY=VALUE or several of them in one word; repeatable")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("'KEY=VALUE ...'");
  add_integer_option(*command, "--repeats", a->repeats, kRepeats, "Steps of each run");
  add_integer_option(*command, "--rounds", a->rounds, kRepeats, "Runs of each, in turn");
  add_integer_option(*command, "--threads", a->threads, {.min = 1, .max = 1024}, "Of each rank");
  command->add_option("--launcher", a->launcher, "What starts ranks; -np N follows")->type_name("COMMAND");
  command->add_flag("--share-processors", a->share, "Allow more ranks than there are processors for");
  command->add_flag("--json", a->json, "Print a JSON object");
  command->footer(
      "Each point is a run of muonp bench step, in rounds that have every point once; shown are medians over rounds. "
      "efficiency\n"
      "is what a busy processor does in a second, as a share of that at the smallest number of ranks. optimizer is the step "
      "without\n"
      "forward and backward.\n"
      "Examples:\n"
      "  muonp bench scaling configs/quickstart.yaml --ranks 1,2\n"
      "  muonp bench scaling configs/quickstart.yaml --compare parallel.zero=1 --compare 'parallel.zero=3 "
      "parallel.overlap=true'");
  command->callback([a, &context] {
    context.session.threads = 0;
    context.session.device = "cpu";
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
