// muonp plan: what a configuration would need on any number of ranks, without running it.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "launch/bench/roofline.h"
#include "launch/commands/cli.h"
#include "launch/commands/compressor_table.h"
#include "launch/train/start_report.h"

namespace muonp::launch {
namespace {

struct Arguments {
  ConfigArguments config;
  std::int64_t ranks = 1;
  bool json = false, compressors = false;
  std::string machine, spectral = "tf32";
};

nlohmann::ordered_json as_json(const StartFacts& facts) {
  using nlohmann::ordered_json;
  const optim::ExecutionPlan& plan = facts.plan;
  ordered_json ranks = ordered_json::array(), owners = ordered_json::array();
  const dist::OwnerPlan& owners_of = plan.matrix_owners();
  for (int r = 0; r < plan.shards.world_size(); ++r) {
    const optim::ExecutionPlan::Bytes b = plan.bytes(r);
    ranks.push_back({{"rank", r},
                     {"weights_bytes", b.weights},
                     {"gradients_bytes", b.gradients},
                     {"optimizer_bytes", b.optimizer},
                     {"exchange_bytes", b.exchange},
                     {"host_bytes", b.host},
                     {"activations_bytes", facts.activation_bytes()},
                     {"snapshot_bytes", facts.snapshot_bytes(r)},
                     {"peak_bytes", planned_peak_bytes(facts, r)},
                     {"load", owners_of.load(r)}});
  }
  for (std::size_t t = 0; t < owners_of.tasks().size(); ++t)
    owners.push_back({{"parameter", owners_of.tasks()[t].name},
                      {"owner", owners_of.owner(static_cast<int>(t))},
                      {"flops", owners_of.tasks()[t].cost}});
  return {{"ranks", ranks},
          {"imbalance", owners_of.imbalance()},
          {"bytes_sent_per_rank", plan.bytes_sent_per_step(facts.batches.passes)},
          {"owners", owners}};
}

int run(Session& session, const Arguments& a) {
  const RunConfig config = resolve(load_run_config(a.config.file, a.config.overrides));
  const auto model = models::make_model(config.model);
  const int ranks = static_cast<int>(a.ranks);
  const BatchPlan batches = make_batch_plan(config.data, ranks);
  // A plan for GPUs can be made anywhere.
  const bool cuda = !a.machine.empty() || config.device == "cuda";
  const core::DeviceKind device = cuda ? core::DeviceKind::cuda : session.device().kind();
  const optim::ExecutionPlan plan =
      optim::make_execution_plan(model->parameters(), config.optimizer, parallel_options(config, *model, device), ranks);
  const StartFacts facts{
      config, *model, plan, batches, session.device_text(), fmt::format("{} (planned, none started)", a.ranks), "", 0};
  if (a.compressors) {
    session.log().info("{}", compressor_table(facts));
    return 0;
  }
  if (!a.machine.empty()) {
    if (plan.compression)
      core::fail("--roofline has no model of compressed messages; set compression.to_owner, to_workers and others to none");
    const Machine& machine = machine_of(a.machine);
    session.log().info("{}", roofline_table(roofline(facts, machine), facts, machine));
    return 0;
  }
  session.log().info("{}", a.json ? as_json(facts).dump(2) : start_report(facts));
  return 0;
}

}  // namespace

void add_plan_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("plan", "What a configuration needs: memory, owners, bytes sent, per rank");
  auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config);
  add_integer_option(*command, "--ranks", a->ranks, {.min = 1, .max = 65536}, "Number of ranks to plan for");
  command->add_flag("--json", a->json, "Print a JSON object, with the owner of every matrix");
  command->add_option("--roofline", a->machine, "Least time of each phase of the step on a machine: h100, a100")
      ->type_name("NAME");
  command->add_flag("--compressors", a->compressors,
                    "What each compressor of the compression section would send, with its contraction constant");
  command->footer(
      "Examples:\n"
      "  muonp plan configs/quickstart.yaml --ranks 4\n"
      "  muonp plan configs/gpt2-124m.yaml --ranks 8 --compressors\n"
      "  muonp plan configs/gpt2-124m.yaml --ranks 64 --set parallel.compute=bfloat16 --roofline h100\n"
      "  muonp plan configs/gpt2-124m.yaml --ranks 64 --set data.batch=512 --set parallel.zero=2");
  command->callback([a, &context] {
    context.session.threads = 0;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
