// muonp bench step: where the time and the memory of a training step go.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "core/base/clock.h"
#include "core/base/units.h"
#include "core/device/attention.h"
#include "launch/bench/trace_file.h"
#include "launch/commands/bench_command.h"
#include "launch/report/table.h"
#include "launch/train/learner.h"
#include "launch/train/start_report.h"

namespace muonp::launch {

namespace {

struct Arguments {
  ConfigArguments config;
  std::int64_t repeats = 5;
  bool json = false;
  std::string trace;  // empty: none
};

// The step whose total is the median one.
const StepOutcome& median_of(std::vector<StepOutcome>& steps) {
  const auto middle = steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2);
  std::ranges::nth_element(steps, middle, {}, &StepOutcome::total_seconds);
  return *middle;
}

// A step that ends when the device has done all of it.
StepOutcome whole_step(Session& session, Learner& learner, std::int64_t number) {
  const core::Phase phase("step");
  const double start = core::seconds_now();
  StepOutcome step = learner.step(number, false);
  core::Phase rest("weights");
  learner.optimizer().wait_for_weights();
  session.device().queue().synchronize();
  rest.end();
  step.report.communication_seconds += core::seconds(learner.optimizer().take_waits());
  step.total_seconds = core::seconds_now() - start;
  return step;
}

std::string attention_text(Session& session, const RunConfig& config) {
  if (session.device().kind() == core::DeviceKind::cpu) return "in blocks of queries, on the CPU";
  const std::int64_t batch = make_batch_plan(config.data, session.world_size()).micro_batch;
  return core::describe_attention({batch, config.data.sequence, config.model.heads(), false, config.model.qk_clip.enabled},
                                  config.compute());
}

// The trace records steps, and what was measured between them.
nlohmann::ordered_json measure(Session& session, const Arguments& a, const RunConfig& config, core::Trace* trace) {
  // A GPU's workspace for products, which is no rank's plan.
  const std::int64_t of_device = session.device().allocator()->use().live_total;
  Learner learner(config, session);
  learner.optimizer().initialize(static_cast<std::uint64_t>(config.run.seed));
  learner.step(0, false);  // primitives are created and pages touched
  if (trace != nullptr) start_together(session, *trace);
  std::vector<StepOutcome> steps;
  std::vector<double> peaks;
  std::int64_t peak_bytes = 0;
  for (std::int64_t i = 1; i <= a.repeats; ++i) {
    // The peak is measured between the steps: the machine's rate is not the same every second.
    core::Phase peak("matrix-product peak");
    peaks.push_back(measure_peak_together(session, config.compute()));
    peak.end();
    session.device().allocator()->reset_peak();  // the measurement's own matrices do not count
    steps.push_back(whole_step(session, learner, i));
    peak_bytes = std::max(peak_bytes, session.device().allocator()->use().peak_total - of_device);
  }
  const StartFacts facts{config, learner.model(), learner.optimizer().plan(), learner.batches(), "", "", "", 0};
  const StepOutcome& step = median_of(steps);
  const auto middle = peaks.begin() + static_cast<std::ptrdiff_t>(peaks.size() / 2);
  std::ranges::nth_element(peaks, middle);
  const double total = step.total_seconds, forward = step.forward_seconds, backward = step.backward_seconds;
  const std::int64_t rows = learner.batches().per_rank, time = config.data.sequence;
  const double flops = learner.model().step_flops(rows, time);
  const double rate = (flops - learner.model().skipped_flops(rows, time)) / (forward + backward);
  const double peak = std::max(rate, *middle);  // passes are not faster than their products
  return {{"seconds_median", total},
          {"tokens_per_second", static_cast<double>(learner.tokens_per_step()) / total},
          {"forward_seconds", forward},
          {"backward_seconds", backward},
          {"communication_seconds", step.report.communication_seconds},
          {"spectral_seconds", step.report.spectral_seconds},
          {"other_seconds", step.other_seconds()},
          {"forward_backward_tokens_per_second", static_cast<double>(learner.tokens_per_step()) / (forward + backward)},
          {"attention", attention_text(session, config)},
          {"model_flops", flops},
          {"peak_gflops", peak * 1e-9},
          {"gemm_fraction", rate / peak},
          {"peak_bytes", peak_bytes},
          {"planned_peak_bytes", planned_peak_bytes(facts, session.rank())},
          {"repeats", a.repeats},
          {"ranks", session.world_size()},
          {"threads", session.threads()},
          {"compute", config.parallel.compute}};
}

nlohmann::ordered_json measure_and_trace(Session& session, const Arguments& a, const RunConfig& config) {
  if (a.trace.empty()) return measure(session, a, config, nullptr);
  core::Trace trace(session.device().queue());
  require_trace_target(session, a.trace);
  session.record(&trace);
  nlohmann::ordered_json result = measure(session, a, config, &trace);
  session.record(nullptr);
  write_trace(session, trace, a.trace);
  return result;
}

std::string as_table(const nlohmann::ordered_json& r) {
  const double total = r.at("seconds_median");
  Table table({"part of the step", "time", "share"}, {Align::left, Align::right, Align::right});
  for (const char* part : {"forward", "backward", "communication", "spectral", "other"}) {
    const double seconds = r.at(std::string(part) + "_seconds");
    table.add({part, core::format_duration(seconds), core::format_percent(seconds / total)});
  }
  table.rule();
  table.add({"step (median)", core::format_duration(total), core::format_rate(r.at("tokens_per_second"), "tokens")});
  table.add({"forward + backward", core::format_rate(r.at("forward_backward_tokens_per_second"), "tokens"),
             core::format_percent(r.at("gemm_fraction")) + " of peak"});
  table.add({"matrix-product peak", fmt::format("{:.1f} Gflop/s", r.at("peak_gflops").get<double>()), ""});
  table.add({"peak memory", core::format_bytes(r.at("peak_bytes")),
             fmt::format("planned {}", core::format_bytes(r.at("planned_peak_bytes")))});
  return table.render();
}

}  // namespace

void add_bench_step_command(CLI::App& bench, Context& context) {
  CLI::App* command = bench.add_subcommand("step", "Training steps of a configuration, split into their parts");
  auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config);
  add_integer_option(*command, "--repeats", a->repeats, kRepeats, "Steps measured, after one that is not");
  command->add_flag("--json", a->json, "Print a JSON object");
  command->add_option("--trace", a->trace, "Write what each rank did and when to this file, for ui.perfetto.dev")
      ->type_name("FILE");
  command->footer(
      "The parts are those of the step whose time is the median: forward and backward without what they wait for messages,\n"
      "which is communication; other is the gradient's norm, momenta and updates.\n"
      "gemm_fraction = model flops, without what causal attention skips, / (forward + backward seconds) / matrix-product "
      "peak\n"
      "measured between the steps. --trace shows each rank's host thread, device queue and operations between ranks; "
      "NVIDIA's\n"
      "tools show the same parts as ranges of NVTX.\n"
      "Examples:\n"
      "  muonp bench step configs/quickstart.yaml\n"
      "  muonp bench step configs/bench-gpt2-124m.yaml --json\n"
      "  mpirun -np 2 muonp bench step configs/quickstart.yaml --repeats 2 --trace trace.json");
  command->callback([a, &context] {
    RunConfig config = load_run_config(a->config.file, a->config.overrides);
    context.session = session_settings(config, "bench step");
    context.session.alike.push_back({"--repeats", std::to_string(a->repeats)});
    context.session.alike.push_back({"--trace", a->trace});
    config.run.steps = std::max(config.run.steps, a->repeats + 1);  // a run may be shorter than its measurement
    context.run = [a, config](Session& session) {
      const nlohmann::ordered_json result = measure_and_trace(session, *a, resolve(config, session.communicator()));
      session.log().info("{}", a->json ? result.dump(2) : as_table(result));
      return 0;
    };
  });
}

}  // namespace muonp::launch
