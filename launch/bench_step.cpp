// muonp bench step: where the time and the memory of a training step go.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "launch/bench_command.h"
#include "launch/learner.h"
#include "launch/start_report.h"
#include "launch/table.h"
#include "launch/units.h"

namespace muonp::launch {

namespace {

struct Arguments {
  ConfigArguments config;
  int repeats = 5;
  bool json = false;
};

struct Sample {
  double total, forward, backward, communication, spectral, peak;
};

double median(const std::vector<Sample>& samples, double Sample::*member) {
  std::vector<double> values;
  for (const Sample& s : samples) values.push_back(s.*member);
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

nlohmann::ordered_json measure(Session& session, const Arguments& a, const RunConfig& config) {
  // A GPU's workspace for products, which is no rank's plan.
  const std::int64_t of_device = session.device().allocator()->use().live_total;
  Learner learner(config, session);
  learner.optimizer().initialize(static_cast<std::uint64_t>(config.run.seed));
  learner.step(0, false);  // primitives are created and pages touched
  std::vector<Sample> samples;
  std::int64_t peak_bytes = 0;
  for (int i = 1; i <= a.repeats; ++i) {
    // The peak is measured between the steps: the machine's rate is not the same every second.
    const double peak = measure_peak(session, config.compute());
    session.device().allocator()->reset_peak();  // the measurement's own matrices do not count
    const StepOutcome s = learner.step(i, false);
    samples.push_back({s.total_seconds, s.forward_seconds, s.backward_seconds, s.report.communication_seconds,
                       s.report.spectral_seconds, peak});
    peak_bytes = std::max(peak_bytes, session.device().allocator()->use().peak_total - of_device);
  }
  const StartFacts facts{config, learner.model(), learner.optimizer().plan(), learner.batches(), "", "", "",
                         0};
  const double total = median(samples, &Sample::total), forward = median(samples, &Sample::forward),
               backward = median(samples, &Sample::backward),
               communication = median(samples, &Sample::communication),
               spectral = median(samples, &Sample::spectral), peak = median(samples, &Sample::peak);
  const double flops = learner.model().step_flops(learner.batches().per_rank, config.data.sequence);
  return {{"seconds_median", total},
          {"tokens_per_second", static_cast<double>(learner.tokens_per_step()) / total},
          {"forward_seconds", forward},
          {"backward_seconds", backward},
          {"communication_seconds", communication},
          {"spectral_seconds", spectral},
          {"other_seconds", total - forward - backward - communication - spectral},
          {"forward_backward_tokens_per_second",
           static_cast<double>(learner.tokens_per_step()) / (forward + backward)},
          {"model_flops", flops},
          {"peak_gflops", peak * 1e-9},
          {"gemm_fraction", flops / (forward + backward) / peak},
          {"peak_bytes", peak_bytes},
          {"planned_peak_bytes", planned_peak_bytes(facts, session.rank())},
          {"repeats", a.repeats},
          {"ranks", session.world_size()},
          {"threads", session.threads()},
          {"compute", config.parallel.compute}};
}

std::string as_table(const nlohmann::ordered_json& r) {
  const double total = r.at("seconds_median");
  Table table({"part of the step", "time", "share"}, {Align::left, Align::right, Align::right});
  for (const char* part : {"forward", "backward", "communication", "spectral", "other"}) {
    const double seconds = r.at(std::string(part) + "_seconds");
    table.add({part, format_duration(seconds), format_percent(seconds / total)});
  }
  table.rule();
  table.add({"step (median)", format_duration(total), format_rate(r.at("tokens_per_second"), "tokens")});
  table.add({"forward + backward", format_rate(r.at("forward_backward_tokens_per_second"), "tokens"),
             format_percent(r.at("gemm_fraction")) + " of peak"});
  table.add({"matrix-product peak", fmt::format("{:.1f} Gflop/s", r.at("peak_gflops").get<double>()), ""});
  table.add({"peak memory", format_bytes(r.at("peak_bytes")),
             fmt::format("planned {}", format_bytes(r.at("planned_peak_bytes")))});
  return table.render();
}

}  // namespace

void add_bench_step_command(CLI::App& bench, Context& context) {
  CLI::App* command =
      bench.add_subcommand("step", "Training steps of a configuration, split into their parts");
  auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config);
  command->add_option("--repeats", a->repeats, "Steps measured, after one that is not")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--json", a->json, "Print a JSON object");
  command->footer(
      "gemm_fraction = model flops / (forward + backward seconds) / matrix-product peak measured between the "
      "steps.\n"
      "Examples:\n"
      "  muonp bench step configs/quickstart.yaml\n"
      "  muonp bench step configs/bench-gpt2-124m.yaml --json");
  command->callback([a, &context] {
    const RunConfig config = load_run_config(a->config.file, a->config.overrides);
    context.session = session_settings(config, "bench step");
    context.session.alike.push_back({"--repeats", std::to_string(a->repeats)});
    context.run = [a, config](Session& session) {
      const nlohmann::ordered_json result = measure(session, *a, resolve(config, session.communicator()));
      session.log().info("{}", a->json ? result.dump(2) : as_table(result));
      return 0;
    };
  });
}

}  // namespace muonp::launch
