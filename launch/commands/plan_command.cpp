// muonp plan: what a configuration would need on any number of ranks, without running it.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "core/config/config_values.h"
#include "core/files/files.h"
#include "launch/bench/cluster_file.h"
#include "launch/bench/plan_picture.h"
#include "launch/bench/plan_report.h"
#include "launch/bench/roofline.h"
#include "launch/commands/cli.h"
#include "launch/commands/compressor_table.h"
#include "launch/train/start_report.h"

namespace muonp::launch {
namespace {

struct Arguments {
  ConfigArguments config;
  std::vector<int> ranks = {1};
  bool json = false, compressors = false, best = false;
  std::string machine, cluster, svg;
};

constexpr core::IntegerRange kRanks{.min = 1, .max = 65536};

// "8,64,1024"
std::vector<int> parse_ranks(const std::string& text) {
  std::vector<int> ranks;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const auto [value, problem] = core::config::read_integer(text.substr(begin, end - begin), kRanks);
    if (!value) throw CLI::ValidationError("--ranks", problem);
    ranks.push_back(static_cast<int>(*value));
    begin = end + 1;
  }
  return ranks;
}

nlohmann::ordered_json as_json(const StartFacts& facts) {
  using nlohmann::ordered_json;
  const optim::ExecutionPlan& plan = facts.plan;
  ordered_json ranks = ordered_json::array(), owners = ordered_json::array();
  const dist::OwnerPlan& owners_of = plan.matrix_owners();
  const std::int64_t activations = facts.activation_bytes(), pass = facts.pass_bytes();
  for (int r = 0; r < plan.shards.world_size(); ++r) {
    const optim::ExecutionPlan::Bytes b = plan.bytes(r);
    ranks.push_back({{"rank", r},
                     {"weights_bytes", b.weights},
                     {"gradients_bytes", b.gradients},
                     {"optimizer_bytes", b.optimizer},
                     {"exchange_bytes", b.exchange},
                     {"host_bytes", b.host},
                     {"activations_bytes", activations},
                     {"snapshot_bytes", facts.snapshot_bytes(r)},
                     {"peak_bytes", plan.peak_bytes(b, pass)},
                     {"load", owners_of.load(r)}});
  }
  for (std::size_t t = 0; t < owners_of.tasks().size(); ++t)
    owners.push_back({{"parameter", owners_of.tasks()[t].name},
                      {"owner", owners_of.owner(static_cast<int>(t))},
                      {"ranks", owners_of.group_size(static_cast<int>(t))},
                      {"flops", owners_of.tasks()[t].cost}});
  return {{"ranks", ranks},
          {"imbalance", owners_of.imbalance()},
          {"bytes_sent_per_rank", plan.bytes_sent_per_step(facts.batches.passes)},
          {"owners", owners}};
}

// What is needed, without a cluster, of one number of ranks.
int run_needs(Session& session, const Arguments& a, const RunConfig& config, int ranks) {
  // A plan for GPUs can be made anywhere.
  const bool cuda = !a.machine.empty() || config.device == "cuda";
  const core::DeviceKind device = cuda ? core::DeviceKind::cuda : session.device().kind();
  const auto model = models::make_model(config.model, device);
  const BatchPlan batches = make_batch_plan(config.data, ranks);
  const optim::ExecutionPlan plan =
      optim::make_execution_plan(model->parameters(), config.optimizer, parallel_options(config, *model, device), ranks);
  const StartFacts facts{
      config, *model, plan, batches, session.device_text(), fmt::format("{} (planned, none started)", ranks), "", 0};
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

int run_prediction(Session& session, const Arguments& a, const RunConfig& config) {
  const dist::Cluster cluster = read_cluster(a.cluster);
  nlohmann::ordered_json json = {
      {"cluster", cluster.name}, {"source", cluster.source}, {"predictions", nlohmann::ordered_json::array()}};
  const std::string model = models::make_model(config.model)->description();
  std::vector<PlanReport> reports;
  for (const int ranks : a.ranks) {
    Planner planner(config, cluster, ranks);
    const PlanReport& report = reports.emplace_back(make_plan_report(planner, a.best));
    if (a.json)
      json["predictions"].push_back(plan_json(report));
    else
      session.log().info("{}", plan_text(report, cluster, model));
  }
  if (!a.svg.empty()) core::write_file(a.svg, plan_svg(reports, cluster, model));
  if (a.json) session.log().info("{}", json.dump(2));
  return 0;
}

int run(Session& session, const Arguments& a) {
  const RunConfig config = resolve(load_run_config(a.config.file, a.config.overrides));
  if (!a.cluster.empty()) return run_prediction(session, a, config);
  if (a.json && a.ranks.size() > 1) core::fail("--json of several numbers of ranks needs --cluster");
  for (const int ranks : a.ranks) run_needs(session, a, config, ranks);
  return 0;
}

}  // namespace

void add_plan_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("plan", "What a configuration needs: memory, owners, bytes sent, per rank");
  auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config);
  command
      ->add_option_function<std::string>(
          "--ranks", [a](const std::string& text) { a->ranks = parse_ranks(text); },
          fmt::format("Numbers of ranks to plan for, as in 8,64 (each {})", core::config::describe_valid(kRanks)))
      ->default_str("1")
      ->type_name("N,...");
  CLI::Option* cluster =
      command->add_option("--cluster", a->cluster, "Predict the step on the cluster of this file")->type_name("FILE");
  command->add_flag("--best", a->best, "Search the settings for the fastest that fits")->needs(cluster);
  command->add_option("--svg", a->svg, "Draw the predicted steps into this file")->type_name("FILE")->needs(cluster);
  CLI::Option* json =
      command->add_flag("--json", a->json, "Print a JSON object; without --cluster with the owner of every matrix");
  command->add_option("--roofline", a->machine, "Least time of each phase of the step on a machine: h100, a100")
      ->type_name("NAME")
      ->excludes(cluster)
      ->excludes(json);
  command
      ->add_flag("--compressors", a->compressors,
                 "What each compressor of the compression section would send, with its contraction constant")
      ->excludes(cluster);
  command->footer(
      "Examples:\n"
      "  muonp plan configs/quickstart.yaml --ranks 4\n"
      "  muonp plan configs/gpt2-124m.yaml --ranks 8 --compressors\n"
      "  muonp plan configs/gpt2-124m.yaml --ranks 8,64 --cluster configs/clusters/h100.yaml --best\n"
      "  muonp plan configs/gpt2-124m.yaml --ranks 64 --cluster configs/clusters/h100.yaml --svg step.svg\n"
      "  muonp plan configs/gpt2-124m.yaml --ranks 64 --set parallel.compute=bfloat16 --roofline h100\n"
      "  muonp plan configs/gpt2-124m.yaml --ranks 64 --set data.batch=512 --set parallel.zero=2");
  command->callback([a, &context] {
    context.session.threads = 0;
    context.run = [a](Session& session) { return run(session, *a); };
  });
}

}  // namespace muonp::launch
