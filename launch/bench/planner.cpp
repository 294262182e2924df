#include "launch/bench/planner.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/index.h"
#include "launch/bench/pass_work.h"

namespace muonp::launch {

// ---- settings ----

namespace {

std::string& recompute_of(RunConfig& config) {
  return config.model.is_llama() ? config.model.llama.recompute : config.model.gpt.recompute;
}
bool recomputes(RunConfig config) { return recompute_of(config) != "none"; }

}  // namespace

PlanSettings settings_of(const RunConfig& config, const BatchPlan& batches) {
  return {config.parallel.zero,       batches.micro_batch,      config.parallel.prefetch, recomputes(config),
          config.parallel.bucket_mib, config.parallel.wave_mib, config.parallel.owners};
}

RunConfig with(RunConfig config, const PlanSettings& settings) {
  config.parallel.zero = settings.zero;
  config.data.micro_batch = settings.micro_batch;
  config.parallel.prefetch = settings.prefetch;
  recompute_of(config) = settings.recompute ? "blocks" : "none";
  config.parallel.bucket_mib = settings.bucket_mib;
  config.parallel.wave_mib = settings.wave_mib;
  config.parallel.owners = settings.owners;
  return config;
}

std::string overrides(const PlanSettings& from, const PlanSettings& to) {
  std::string text;
  const auto add = [&](const char* key, const auto& before, const auto& after) {
    if (before != after) text += fmt::format("{}--set {}={}", text.empty() ? "" : " ", key, after);
  };
  const auto word = [](bool on) { return std::string(on ? "blocks" : "none"); };
  add("parallel.zero", from.zero, to.zero);
  add("data.micro_batch", from.micro_batch, to.micro_batch);
  add("model.recompute", word(from.recompute), word(to.recompute));
  add("parallel.bucket_mib", from.bucket_mib, to.bucket_mib);
  add("parallel.wave_mib", from.wave_mib, to.wave_mib);
  add("parallel.prefetch", from.prefetch, to.prefetch);
  add("parallel.owners", from.owners, to.owners);
  return text;
}

// ---- forecasts ----

// A model and its plan, which do not depend on the micro-batch.
struct Planner::Planned {
  RunConfig config;
  std::unique_ptr<models::LanguageModel> model;
  std::unique_ptr<optim::ExecutionPlan> plan;
};

Planner::Planner(const RunConfig& config, const dist::Cluster& cluster, int ranks)
    : config_(config),
      view_(cluster, ranks),
      batches_(make_batch_plan(config.data, ranks)),
      device_(cluster.gpus ? core::DeviceKind::cuda : core::DeviceKind::cpu) {
  RunConfig plain = config;
  recompute_of(plain) = "none";
  plain_ = models::make_model(plain.model, device_);
}

Planner::~Planner() = default;

Planner::Planned& Planner::planned(const RunConfig& config) {
  const std::string key =
      fmt::format("{} {} {} {} {} {} {} {} {}", config.parallel.zero, config.parallel.bucket_mib, config.parallel.wave_mib,
                  config.parallel.prefetch, config.parallel.owners, recomputes(config), config.compression.to_owner,
                  config.compression.to_workers, config.compression.others);
  std::unique_ptr<Planned>& entry = planned_[key];
  if (entry) return *entry;
  auto made = std::make_unique<Planned>(Planned{config, models::make_model(config.model, device_), nullptr});
  made->plan = std::make_unique<optim::ExecutionPlan>(optim::make_execution_plan(
      made->model->parameters(), config.optimizer, parallel_options(config, *made->model, device_), ranks()));
  entry = std::move(made);
  return *entry;
}

namespace {

// Ranks among which is the one that needs most. All, but where each rank's messages are counted one by one; there ranks
// differ by what they own, and those that own most are looked at.
std::vector<int> candidates(const optim::ExecutionPlan& plan) {
  constexpr int kAllUpTo = 64, kMost = 8;
  const int n = plan.shards.world_size();
  std::vector<int> ranks(core::at(n));
  for (int r = 0; r < n; ++r) ranks[core::at(r)] = r;
  if (!plan.compression || n <= kAllUpTo) return ranks;
  std::vector<std::int64_t> owned(core::at(n), 0);
  for (const dist::FeedbackMatrix& m : plan.compression->feedback.matrices) owned[core::at(m.owner)] += m.size();
  std::ranges::stable_sort(ranks, std::greater<>(), [&](int r) { return owned[core::at(r)]; });
  ranks.resize(kMost);
  return ranks;
}

}  // namespace

MemoryForecast Planner::memory(const Planned& planned, const RunConfig& config, const BatchPlan& batches) const {
  const StartFacts facts{config, *planned.model, *planned.plan, batches, "", "", "", 0};
  MemoryForecast most;
  most.activations = facts.activation_bytes();
  const std::int64_t pass = facts.pass_bytes();
  for (const int rank : candidates(*planned.plan)) {
    const optim::ExecutionPlan::Bytes bytes = planned.plan->bytes(rank);
    const std::int64_t snapshot = facts.snapshot_bytes(rank);
    const std::int64_t total = planned.plan->peak_bytes(bytes, pass) + (view_.cluster().gpus ? 0 : snapshot);
    if (total <= most.total) continue;
    most = {rank, bytes, most.activations, snapshot, total};
  }
  return most;
}

Forecast Planner::forecast(const RunConfig& config, std::string name, optim::StepScheme scheme) {
  const BatchPlan batches = make_batch_plan(config.data, ranks());
  Planned& what = planned(config);
  const std::int64_t time = config.data.sequence;
  const core::Dtype type = what.plan->options.weight_dtype;
  const std::int64_t kept = plain_->activation_bytes({batches.micro_batch, time, type, device_, config.data.packing});
  const optim::PassWork work =
      pass_work(*what.model, {batches.micro_batch, time, config.model.heads().size, type, kept}, view_.rates());
  Forecast result{.name = std::move(name),
                  .settings = settings_of(config, batches),
                  .step = optim::predict_step(*what.plan, work, batches.passes, view_, scheme),
                  .memory = memory(what, config, batches),
                  .imbalance = what.plan->matrix_owners().imbalance(),
                  .tokens = static_cast<double>(batches.batch * time)};
  result.fits = fits(result.memory);
  return result;
}

namespace {

std::string stage_name(const RunConfig& config) { return fmt::format("ZeRO {}", config.parallel.zero); }

std::string name_of(const RunConfig& config) {
  const CompressionSection& c = config.compression;
  const std::string stage = stage_name(config);
  if (c.to_owner == "none" && c.others == "none") return stage;
  return fmt::format("{}, {} / {}{}", stage, c.to_owner, c.to_workers,
                     c.others == "none" ? std::string() : ", others " + c.others);
}

}  // namespace

Forecast Planner::as_configured() { return forecast(config_, name_of(config_)); }

namespace {

// Of the two largest waves of matrices that a rank holds whole, one that it computes and one on its way.
std::int64_t gathered_bytes(const optim::ExecutionPlan& plan) {
  std::int64_t most = 0;
  for (int w = 0; w < plan.owners.waves(); ++w) {
    std::int64_t elements = 0;
    for (const int t : plan.owners.wave(w)) elements += plan.owners.tasks()[core::at(t)].elements;
    most = std::max(most, elements);
  }
  return 2 * 4 * most;
}

}  // namespace

// Under plain data parallelism everything is whole on every rank, as at stage 0; momenta that are gathered are sharded
// before, as at stage 1.
Forecast Planner::baseline(optim::StepScheme scheme) {
  using Scheme = optim::StepScheme;
  RunConfig config = config_;
  config.parallel.zero = scheme == Scheme::gathered ? 1 : 0;
  config.compression = {};
  if (scheme == Scheme::owner_broadcast) return forecast(config, "owner + broadcast", scheme);
  Forecast result = forecast(config, scheme == Scheme::gathered ? "all-gather of momentum" : "replicated Muon", scheme);
  result.imbalance = 1;
  // One rank's plan owns all matrices.
  Planned& what = planned(config);
  const optim::ExecutionPlan alone = optim::make_execution_plan(what.model->parameters(), config.optimizer,
                                                                parallel_options(config, *what.model, device_), 1);
  MemoryForecast& memory = result.memory;
  const std::int64_t before = std::max(memory.bytes.exchange, memory.activations);
  memory.bytes.exchange = alone.bytes(0).exchange + (scheme == Scheme::gathered ? gathered_bytes(*what.plan) : 0);
  memory.total += std::max(memory.bytes.exchange, memory.activations) - before;
  result.fits = fits(memory);
  return result;
}

std::vector<Forecast> Planner::schemes() {
  // Both directions alike; docs/compression.md has what each keeps of a matrix.
  static constexpr const char* kCompressors[] = {"identity", "natural",           "int8",      "int4",
                                                 "sign",     "top_k_natural 0.1", "top_k 0.1", "rank 16"};
  std::vector<Forecast> all = {baseline(optim::StepScheme::replicated), baseline(optim::StepScheme::owner_broadcast),
                               baseline(optim::StepScheme::gathered)};
  RunConfig config = config_;
  config.compression = {};
  for (std::int64_t stage : {0, 1, 2, 3}) {
    config.parallel.zero = stage;
    all.push_back(forecast(config, name_of(config)));
  }
  config.parallel.zero =
      dist::ZeroStage(static_cast<int>(config_.parallel.zero)).reduces_each_pass ? 1 : config_.parallel.zero;
  config.parallel.offload = "none";
  for (const char* compressor : kCompressors) {
    config.compression.to_owner = config.compression.to_workers = compressor;
    if (config_.compression.others != "none") config.compression.others = config_.compression.others;
    try {
      all.push_back(forecast(config, name_of(config)));
    } catch (const core::Error&) {  // it cannot take the model's matrices, and so is no scheme for it
    }
  }
  return all;
}

// ---- the search ----

std::vector<std::int64_t> Planner::stages() const {
  if (config_.compression.to_owner != "none" || config_.compression.others != "none") return {0, 1};
  return {0, 1, 2, 3};
}

std::vector<std::int64_t> Planner::micro_batches() const {
  std::vector<std::int64_t> divisors;
  for (std::int64_t size = batches_.per_rank; size >= 1; --size)
    if (batches_.per_rank % size == 0) divisors.push_back(size);
  return divisors;
}

// The faster one that fits; of two that are as fast, `best`.
std::optional<Forecast> Planner::faster(std::optional<Forecast> best, const PlanSettings& settings) {
  const RunConfig config = with(config_, settings);
  const BatchPlan batches = make_batch_plan(config.data, ranks());
  const Planned& what = planned(config);
  const models::PassShape shape{batches.micro_batch, config.data.sequence, what.plan->options.weight_dtype, device_,
                                config.data.packing};
  if (static_cast<double>(what.model->activation_bytes(shape)) > memory_of_rank())
    return best;  // and the plan's part comes on top
  Forecast found = forecast(config, name_of(config));
  if (!found.fits || (best && found.step.seconds() >= best->step.seconds())) return best;
  return found;
}

// One setting after the other, until none makes it faster.
std::optional<Forecast> Planner::refine(Forecast best) {
  static constexpr double kBuckets[] = {5, 25, 100, 400}, kWaves[] = {16, 64, 256};
  static constexpr std::int64_t kPrefetch[] = {0, 1, 2};
  static const std::string kOwners[] = {"whole", "auto"};
  std::optional<Forecast> found = std::move(best);
  for (PlanSettings before = {.zero = -1}; before != found->settings;) {
    before = found->settings;
    const auto try_all = [&](const auto& values, auto PlanSettings::*setting) {
      for (const auto& value : values) {
        PlanSettings settings = found->settings;
        if (settings.*setting == value) continue;
        settings.*setting = value;
        found = faster(std::move(found), settings);
      }
    };
    try_all(kBuckets, &PlanSettings::bucket_mib);
    try_all(kWaves, &PlanSettings::wave_mib);
    try_all(kOwners, &PlanSettings::owners);
    if (dist::ZeroStage(static_cast<int>(found->settings.zero)).gathers_each_pass)
      try_all(kPrefetch, &PlanSettings::prefetch);
  }
  return found;
}

std::optional<Forecast> Planner::best() {
  std::optional<Forecast> found;
  PlanSettings settings = settings_of(config_, batches_);
  for (const std::int64_t stage : stages())
    for (const bool recompute : {false, true})
      for (const std::int64_t size : micro_batches()) {
        settings.zero = stage;
        settings.recompute = recompute;
        settings.micro_batch = size;
        found = faster(std::move(found), settings);
      }
  return found ? refine(*std::move(found)) : std::nullopt;
}

std::optional<Forecast> Planner::that_fits(const Forecast& forecast) {
  const PlanSettings given = forecast.settings;
  std::optional<Forecast> found;
  const auto try_with = [&](const auto& change) {
    PlanSettings settings = given;
    change(settings);
    if (settings != given) found = faster(std::move(found), settings);
  };
  for (const std::int64_t stage : stages()) try_with([&](PlanSettings& s) { s.zero = stage; });
  for (const std::int64_t size : micro_batches()) try_with([&](PlanSettings& s) { s.micro_batch = size; });
  try_with([](PlanSettings& s) { s.recompute = true; });
  return found ? found : best();
}

}  // namespace muonp::launch
