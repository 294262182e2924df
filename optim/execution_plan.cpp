#include "optim/execution_plan.h"

#include <algorithm>

#include "core/hash.h"
#include "core/offload.h"
#include "dist/owner_exchange.h"
#include "dist/reducer.h"

namespace muonp::optim {

std::unique_ptr<MatrixStep> make_matrix_step(const GroupConfig& group, core::DeviceKind device) {
  return std::make_unique<MatrixStep>(spectral::make_spectral_power(group.spectral_options(device)),
                                      group.muonp().scale);
}

namespace {

std::vector<dist::ParameterSpec> specs_of(const core::ParameterList& parameters) {
  std::vector<dist::ParameterSpec> specs;
  for (const core::Parameter* p : parameters) specs.push_back({p->name, p->shape});
  return specs;
}

std::vector<dist::MatrixTask> tasks_of(const core::ParameterList& parameters, const Groups& groups,
                                       core::DeviceKind device) {
  std::vector<dist::MatrixTask> tasks;
  for (const Group& group : groups.groups()) {
    if (group.config.rule != "muonp") continue;
    const auto step = make_matrix_step(group.config, device);
    for (int index : group.parameters) {
      const core::Parameter& p = *parameters[static_cast<std::size_t>(index)];
      if (p.size() > 0)
        tasks.push_back({p.name, index, step->cost(p.name, p.shape, groups.split_of(index)), p.size()});
    }
  }
  return tasks;
}

}  // namespace

ExecutionPlan make_execution_plan(const core::ParameterList& parameters, const OptimizerConfig& config,
                                  const ParallelOptions& options, int world_size) {
  if (options.zero < 0 || options.zero > 3)
    core::fail("parallel.zero: {} is no ZeRO stage of this program; valid are 0, 1, 2 and 3", options.zero);
  if (options.prefetch < 0) core::fail("parallel.prefetch: {} is negative", options.prefetch);
  if (options.offload && options.device == core::DeviceKind::cpu)
    core::fail("parallel.offload: optimizer: a CPU keeps the optimizer's state in host memory anyway; valid with "
               "device: cpu is none");
  Groups groups(config, parameters);
  dist::OwnerPlan owners(tasks_of(parameters, groups, options.device), world_size, options.wave_elements);
  const bool layers = options.zero == 3;
  ExecutionPlan plan{.options = options,
                     .groups = std::move(groups),
                     .shards = dist::ShardPlan(specs_of(parameters), world_size, options.bucket_elements, layers),
                     .owners = std::move(owners),
                     .gathers = {}};
  core::WeightReads& reads = plan.options.reads;
  if (reads.forward.empty())
    for (core::Parameter* p : parameters) reads.operation({p}, {p});
  if (layers) plan.gathers.emplace(plan.shards, parameters, reads, options.prefetch);
  if (options.zero >= 2)
    plan.whole_gradients =
        dist::GradientReducer::most_whole(plan.shards, parameters, reads.forward, options.overlap);
  return plan;
}

std::int64_t ExecutionPlan::gradient_bytes() const {
  if (options.zero < 2) return 4 * shards.padded_elements();
  return 4 * (shards.padded_elements() / shards.world_size() + whole_gradients);
}

std::int64_t ExecutionPlan::weight_elements() const {
  if (!gathers) return shards.padded_elements();
  std::int64_t largest = 0;  // gathered to compare the weights' hash
  for (const dist::Bucket& bucket : shards.buckets()) largest = std::max(largest, bucket.size);
  return shards.padded_elements() / shards.world_size() + std::max(gathers->training().most_held, largest);
}

// Largest scratch memory of the spectral steps that the rank owns in a group of the rule muonp.
std::int64_t ExecutionPlan::workspace_bytes(int rank, const Group& group) const {
  std::int64_t workspace = 0;
  const auto step = make_matrix_step(group.config, options.device);
  for (std::size_t t = 0; t < owners.tasks().size(); ++t) {
    const int p = owners.tasks()[t].parameter;
    if (owners.owner(static_cast<int>(t)) != rank || !std::ranges::binary_search(group.parameters, p)) continue;
    const dist::ParameterSpec& spec = shards.parameters()[static_cast<std::size_t>(p)];
    workspace = std::max(workspace, step->workspace_bytes(spec.name, spec.shape, groups.split_of(p)));
  }
  return workspace;
}

// States and masters; offloaded, the largest pieces that are on the device at once.
void ExecutionPlan::add_optimizer_bytes(int rank, Bytes& bytes) const {
  const bool own_masters = options.weight_dtype != core::Dtype::float32;
  std::int64_t kept_elements = 0, piece = 0;
  const auto bring = [&](std::int64_t tensors, std::int64_t elements) {
    piece = std::max(piece, 4 * tensors * std::min(core::kOffloadPiece, elements));
  };
  for (const Group& group : groups.groups()) {
    const auto states = static_cast<std::int64_t>(group.config.state_names().size());
    const bool apart = group.config.rule == "muonp";  // momentum first, the master later
    for (int p : group.parameters) {
      const std::int64_t kept = options.zero == 0 ? shards.in_bucket(p).count() : shards.piece(p, rank).count();
      kept_elements += states * kept;
      bring(apart ? std::max<std::int64_t>(states, own_masters) : states + own_masters, kept);
    }
  }
  if (own_masters)
    for (const dist::Bucket& bucket : shards.buckets()) {
      const std::int64_t kept = options.zero == 0 ? bucket.size : bucket.size / shards.world_size();
      kept_elements += kept;
      bring(1, kept);  // cast to weights
    }
  (options.offload ? bytes.host : bytes.optimizer) += 4 * kept_elements;
  if (options.offload) bytes.optimizer += piece;
}

ExecutionPlan::Bytes ExecutionPlan::bytes(int rank) const {
  Bytes bytes;
  bytes.weights = weight_elements() * core::size_of(options.weight_dtype);
  bytes.gradients = gradient_bytes();
  add_optimizer_bytes(rank, bytes);
  std::int64_t workspace = 0;
  for (const Group& group : groups.groups())
    if (group.config.rule == "muonp") workspace = std::max(workspace, workspace_bytes(rank, group));
  bytes.exchange = dist::OwnerExchange::buffer_bytes(shards, owners, rank, options.zero) + workspace;
  return bytes;
}

double ExecutionPlan::bytes_sent_per_step(std::int64_t passes) const {
  const double n = shards.world_size(), share = (n - 1) / n, each_pass = static_cast<double>(passes);
  const auto padded = static_cast<double>(shards.padded_elements());
  const auto weight_bytes = static_cast<double>(core::size_of(options.weight_dtype));
  std::int64_t used = 0, matrices = 0, own = 0;
  for (const dist::Bucket& bucket : shards.buckets()) used += bucket.used;
  for (std::size_t t = 0; t < owners.tasks().size(); ++t) {
    const int p = owners.tasks()[t].parameter;
    matrices += owners.tasks()[t].elements;
    own += shards.piece(p, owners.owner(static_cast<int>(t))).count();
  }
  if (options.zero == 0)
    return 2 * share * 4 * static_cast<double>(used) + 4 * share * static_cast<double>(matrices);
  // Reduce-scatter of gradients, all-gather of weights, and what leaves its rank of each matrix, there and
  // back.
  const double reduced = options.zero >= 2 ? padded * each_pass : padded;
  const double gathered = gathers ? static_cast<double>(gathers->training().gathered) * each_pass : padded;
  return share * (4 * reduced + weight_bytes * gathered) + 2 * 4 * static_cast<double>(matrices - own) / n;
}

std::uint64_t ExecutionPlan::hash() const {
  const std::string text = describe();
  return core::hash_bytes(text.data(), static_cast<std::int64_t>(text.size()));
}

std::string ExecutionPlan::describe() const {
  std::string text =
      fmt::format("zero {} buckets of {} waves of {} weights {}{}\n", options.zero, options.bucket_elements,
                  options.wave_elements, core::name_of(options.weight_dtype), options.offload ? " offload" : "");
  for (const Group& group : groups.groups())
    text += fmt::format("group {}: {}, lr {}, {} parameters, {} elements\n", group.config.name,
                        group.config.rule_text(), group.config.lr, group.parameters.size(), group.elements);
  if (gathers) text += gathers->describe();
  return text + shards.describe() + owners.describe();
}

}  // namespace muonp::optim
