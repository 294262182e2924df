#include "optim/plan/execution_plan.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "core/device/offload.h"
#include "dist/comm/operation.h"
#include "dist/zero/exact_transport.h"
#include "dist/zero/reducer.h"
#include "optim/plan/frozen_plan.h"
#include "optim/plan/sharing.h"
#include "optim/plan/spectra.h"

namespace muonp::optim {

namespace {

// In ascending order those below `count` that are not in `indices`.
std::vector<int> all_but(const std::vector<int>& indices, int count) {
  std::vector<int> rest;
  for (int i = 0; i < count; ++i)
    if (!std::ranges::binary_search(indices, i)) rest.push_back(i);
  return rest;
}

void refuse_stages_without_whole_weights(const ParallelOptions& options) {
  if (options.compression.any() && dist::ZeroStage(options.zero).reduces_each_pass)
    core::fail(
        "compression with parallel.zero: {}: every rank keeps momentum, estimates and weights of what is "
        "compressed whole, which stages from 2 on exist to shard; valid are 0 and 1",
        options.zero);
  if (options.compression.any() && options.owners == dist::Owners::groups)
    core::fail(
        "parallel.owners: groups with compression: what ranks send of a matrix's momentum is compressed as a whole, and its "
        "owner keeps an estimate of the whole; valid are whole and auto");
  if (options.compression.any() && options.offload)
    core::fail("parallel.offload: optimizer with compression: momentum and estimates are on the device; valid is none");
}

// What matrix steps take for the matrices that the rank owns in a wave, which lie as `layout` says if there is one.
class MatrixWorkspace {
 public:
  MatrixWorkspace(const dist::OwnerPlan& owners, const Groups& groups, const std::vector<dist::ParameterSpec>& specs,
                  core::DeviceKind device, int rank)
      : owners_(owners), groups_(groups), specs_(specs), rank_(rank) {
    for (const Group& group : groups.groups())
      steps_.push_back(group.config.whole_matrices() ? group.config.rule->matrix_step(device) : nullptr);
  }
  std::int64_t operator()(int wave, const std::optional<dist::WaveLayout>& layout = std::nullopt) const {
    std::vector<std::vector<MatrixInput>> inputs(steps_.size());
    std::int64_t most = 0;
    for (const int t : owners_.wave(wave)) {
      if (!owners_.owns(rank_, t)) continue;
      const int p = owners_.tasks()[core::at(t)].parameter;
      const dist::ParameterSpec& spec = specs_[core::at(p)];
      const auto group = core::at(groups_.group_of(p));
      MatrixInput input{spec.name, spec.shape, groups_.split_of(p), {}, {}};
      if (owners_.is_shared(t)) {
        most = std::max(most, steps_[group]->share_workspace_bytes(input, owners_.group_size(t)));
        continue;
      }
      if (layout) input.begin = layout->begins.at(t);
      inputs[group].push_back(std::move(input));
    }
    for (std::size_t g = 0; g < inputs.size(); ++g)  // before those that are shared
      if (!inputs[g].empty()) most = std::max(most, steps_[g]->workspace_bytes(inputs[g]));
    return most;
  }

 private:
  const dist::OwnerPlan& owners_;
  const Groups& groups_;
  const std::vector<dist::ParameterSpec>& specs_;
  int rank_;
  std::vector<std::unique_ptr<MatrixStep>> steps_;
};

// can_be_shared: of the parameters, where their rules allow it too.
std::vector<dist::MatrixTask> tasks_of(const core::ParameterList& parameters, const Groups& groups, core::DeviceKind device,
                                       const std::function<bool(const core::Parameter&)>& can_be_shared) {
  std::vector<dist::MatrixTask> tasks;
  for (const Group& group : groups.groups()) {
    if (!group.config.whole_matrices()) continue;
    const auto step = group.config.rule->matrix_step(device);
    for (int index : group.parameters) {
      const core::Parameter& p = *parameters[core::at(index)];
      if (p.size() == 0) continue;
      tasks.push_back({p.name, index, step->cost(p.name, p.shape, groups.split_of(index)), p.size()});
      if (can_be_shared(p)) let_share(tasks.back(), *step, p, groups.split_of(index));
    }
  }
  return tasks;
}

}  // namespace

namespace {

void refuse_norms_of_sums_that_nobody_has(const std::vector<int>& compressed, const Groups& groups) {
  for (const int p : compressed)
    if (const GroupConfig& group = groups.group_for(p).config; group.rule->needs().gradient_norm)
      core::fail(
          "compression with optimizer.{}: its rule, {}, needs the norm of each gradient's mean over ranks, and where "
          "gradients are sent compressed the mean is never there",
          group.name, group.rule->name());
    else if (group.rule->needs().mean_gradient)
      core::fail(
          "compression with optimizer.{}: its rule, {}, divides by the root of squares of the mean gradient over ranks, and "
          "where gradients are sent compressed the mean is never there",
          group.name, group.rule->name());
    else if (group.rule->needs().old_gradient)
      core::fail("compression with optimizer.{}.variant: exact, whose second gradient is of weights that nobody has whole",
                 group.name);
    else if (group.rule->evaluates_average())
      core::fail("compression with optimizer.{}: its rule, {}, evaluates averaged weights, which are nowhere whole",
                 group.name, group.rule->name());
    else if (group.rule->needs().partner_gram)
      core::fail(
          "compression with optimizer.{}.lora: whitened, which reads the other factor of an adapter whole before each step; "
          "valid are b_only and both",
          group.name);
}

}  // namespace

std::int64_t default_wave(core::DeviceKind device, int world_size) {
  return (device == core::DeviceKind::cuda && world_size == 1 ? 512 : 64) << 18;
}

ExecutionPlan make_execution_plan(const core::ParameterList& model, const OptimizerConfig& config,
                                  const ParallelOptions& options, int world_size) {
  const dist::ZeroStage zero = options.zero;
  const core::ParameterList parameters = core::trained_of(model);
  config.require_run();
  refuse_stages_without_whole_weights(options);
  if (options.prefetch < 0) core::fail("parallel.prefetch: {} is negative", options.prefetch);
  if (options.offload && options.device == core::DeviceKind::cpu)
    core::fail(
        "parallel.offload: optimizer: a CPU keeps the optimizer's state in host memory anyway; valid with "
        "device: cpu is none");
  Groups groups(config, parameters);
  for (const Group& group : groups.groups()) group.config.require_storable("optimizer." + group.config.name);
  std::vector<int> compressed = compressed_parameters(parameters, groups, options.compression);
  refuse_norms_of_sums_that_nobody_has(compressed, groups);
  require_measurable(options.spectra, parameters, groups);
  std::vector<int> sharded = all_but(compressed, core::to_int(parameters.size()));
  Groups sharded_groups = groups.restricted_to(sharded, parameters);
  const std::int64_t wave_elements =
      options.wave_elements > 0 ? options.wave_elements : default_wave(options.device, world_size);
  const auto owners_of = [&](const core::ParameterList& list, const Groups& of, dist::Owners owners) {
    const auto can_be_shared = [&](const core::Parameter& p) {
      return owners != dist::Owners::whole && !is_measured(options.spectra, p.name);
    };
    return dist::OwnerPlan(tasks_of(list, of, options.device, can_be_shared), world_size, wave_elements, owners);
  };
  std::optional<CompressionPlan> compression;
  if (options.compression.any()) {
    const core::ParameterList list = chosen(parameters, compressed);
    Groups of_list = groups.restricted_to(compressed, parameters);
    dist::OwnerPlan owners = owners_of(list, of_list, dist::Owners::whole);
    compression = make_compression_plan(std::move(compressed), list, std::move(of_list), std::move(owners),
                                        options.compression, world_size, options.bucket_elements);
  }
  const core::ParameterList rest = chosen(parameters, sharded);
  dist::OwnerPlan owners = owners_of(rest, sharded_groups, options.owners);
  ExecutionPlan plan{.options = options,
                     .zero = zero,
                     .groups = std::move(groups),
                     .sharded = std::move(sharded),
                     .sharded_groups = std::move(sharded_groups),
                     .shards = dist::ShardPlan(specs_of(rest), world_size, options.bucket_elements, zero.gathers_each_pass),
                     .owners = std::move(owners),
                     .gathers = {},
                     .compression = std::move(compression),
                     .partners = {},
                     .frozen = {},
                     .frozen_gathers = {},
                     .whole_weights = {},
                     .whole_gradients = {}};
  if (plan.options.reads.forward.empty())
    for (core::Parameter* p : model) plan.options.reads.operation({p}, {p});
  const core::WeightReads reads = plan.options.reads.only(true);
  plan.partners = partners_of(rest, plan.sharded_groups);
  if (zero.gathers_each_pass)
    plan.gathers.emplace(plan.shards, core::positions_of(reads.forward, parameters),
                         core::positions_of(reads.backward, parameters), options.prefetch);
  plan_frozen(model, plan, world_size);
  if (zero.reduces_each_pass)
    plan.whole_gradients =
        dist::GradientReducer::whole_by_operation(plan.shards, parameters, plan.options.reads.forward, options.overlap);
  return plan;
}

namespace {

// Of states that live with the owner, those of the matrices that a rank owns.
struct OwnedStates {
  std::int64_t elements = 0;
  std::int64_t largest_wave = 0;  // elements
};
OwnedStates owned_states(const dist::OwnerPlan& owners, const Groups& groups, const std::vector<dist::ParameterSpec>& specs,
                         int rank) {
  OwnedStates owned;
  for (int w = 0; w < owners.waves(); ++w) {
    std::int64_t elements = 0;
    for (const int t : owners.wave(w)) {
      const int p = owners.tasks()[core::at(t)].parameter;
      if (owners.owner(t) != rank) continue;
      for (const OwnerState& state : owner_states(groups, specs[core::at(p)], p))
        elements += core::element_count(state.shape);
    }
    owned.elements += elements;
    owned.largest_wave = std::max(owned.largest_wave, elements);
  }
  return owned;
}

}  // namespace

std::vector<OwnerState> owner_states(const Groups& groups, const dist::ParameterSpec& spec, int parameter) {
  std::vector<OwnerState> states;
  for (const StateSpec& s : groups.group_for(parameter).config.rule->states_of(Home::owner))
    states.push_back({s.name, state_shape(s, matrix_batches(spec.name, spec.shape, groups.split_of(parameter)))});
  return states;
}

namespace {

std::int64_t largest_of(std::span<const std::int64_t> elements) {
  return elements.empty() ? 0 : *std::ranges::max_element(elements);
}

}  // namespace

std::int64_t ExecutionPlan::whole_gradient_bytes() const { return 4 * largest_of(whole_gradients); }

// Stage 3: in a pass, and one bucket at a time to compare the weights' hash.
std::int64_t ExecutionPlan::whole_weight_bytes() const {
  return core::size_of(options.weight_dtype) * std::max(largest_of(whole_weights), largest_bucket());
}

std::int64_t ExecutionPlan::largest_bucket() const {
  if (!gathers) return 0;
  std::int64_t largest = 0;
  for (const dist::ShardPlan* plan : {&shards, frozen ? &*frozen : &shards})
    for (const dist::Bucket& bucket : plan->buckets()) largest = std::max(largest, bucket.size);
  return largest;
}

std::int64_t ExecutionPlan::pass_bytes(std::span<const core::PassStretch> pass) const {
  const std::int64_t weight = core::size_of(options.weight_dtype);
  const std::span<const std::int64_t> of_weights(whole_weights), of_gradients(whole_gradients);
  const auto of = [](std::span<const std::int64_t> elements, std::int64_t from, std::int64_t count) {
    return elements.empty() ? 0 : largest_of(elements.subspan(core::at(from), core::at(count)));
  };
  std::int64_t most = 0, forward = 0, backward = std::ssize(options.reads.forward) + std::ssize(options.reads.backward);
  for (const core::PassStretch& stretch : pass) {
    backward -= stretch.backward;  // whose operations begin with those of the last stretch
    const std::int64_t whole =
        std::max(of(of_weights, forward, stretch.forward), of(of_weights, backward, stretch.backward));
    most = std::max(most, stretch.activations + weight * whole + 4 * of(of_gradients, forward, stretch.forward));
    forward += stretch.forward;
  }
  MUONP_ASSERT(forward == std::ssize(options.reads.forward) && backward == forward, "stretches of {} operations of {}",
               forward, options.reads.forward.size());
  return most;
}

std::int64_t ExecutionPlan::peak_bytes(const Bytes& bytes, std::int64_t pass_bytes) const {
  const std::int64_t kept =
      bytes.weights - whole_weight_bytes() + bytes.gradients - whole_gradient_bytes() + bytes.optimizer;
  const std::int64_t compared = core::size_of(options.weight_dtype) * largest_bucket();
  return kept + std::max({pass_bytes, bytes.exchange, compared});
}

// States and masters; and the largest part that is on the device at once of what is offloaded, pieces or a wave's states of
// an owner, or as float32 of what is kept in fewer bits.
void ExecutionPlan::add_optimizer_bytes(int rank, Bytes& bytes) const {
  const bool own_masters = options.weight_dtype != core::Dtype::float32;
  std::int64_t kept = 0, piece = 0;
  for (const Group& group : sharded_groups.groups()) {
    const bool apart = group.config.whole_matrices();  // states first, the master later
    const std::vector<Storage> states = group.config.storages();
    for (int p : group.parameters) {
      const dist::Interval mine = zero.keeps_slice ? shards.piece(p, rank) : dist::Interval{0, shards.in_bucket(p).count()};
      kept += stored_bytes(states, mine.begin, mine.count());
      piece =
          std::max(piece, state_workspace_bytes(own_masters && !apart, states, mine.begin, mine.count(), options.offload));
    }
  }
  for (const dist::Bucket& bucket : shards.buckets()) {
    const std::int64_t elements = !zero.keeps_slice ? bucket.size : bucket.size / shards.world_size();
    if (own_masters) kept += 4 * elements;
    if (own_masters && options.offload)  // cast to weights, after updates of parts of it
      piece = std::max(piece, 4 * std::min(core::kOffloadPiece, elements));
  }
  const OwnedStates owned = owned_states(owners, sharded_groups, shards.parameters(), rank);
  (options.offload ? bytes.host : bytes.optimizer) += kept + 4 * owned.elements;
  if (compression) piece = std::max(piece, compressed_state_workspace(rank));
  bytes.optimizer += std::max(piece, options.offload ? 4 * owned.largest_wave : 0);
}

// The parts take turns, and what is compressed is not offloaded.
std::int64_t ExecutionPlan::compressed_state_workspace(int rank) const {
  std::int64_t most = 0;
  for (const Group& group : compression->groups.groups()) {
    const std::vector<Storage> states = group.config.storages();
    for (const int p : group.parameters) {
      const dist::Interval mine = compression->kept(p, rank);
      most = std::max(most, state_workspace_bytes(0, states, mine.begin, mine.count(), false));
    }
  }
  return most;
}

ExecutionPlan::Bytes ExecutionPlan::bytes(int rank) const {
  Bytes bytes;
  const int n = shards.world_size();
  const std::int64_t all = shards.padded_elements() + (frozen ? frozen->padded_elements() : 0);
  bytes.weights = core::size_of(options.weight_dtype) * (gathers ? all / n : all) + whole_weight_bytes();
  bytes.gradients = 4 * shards.padded_elements() / (zero.reduces_each_pass ? n : 1) + whole_gradient_bytes();
  add_optimizer_bytes(rank, bytes);
  const MatrixWorkspace workspace(owners, sharded_groups, shards.parameters(), options.device, rank);
  bytes.exchange = dist::ExactTransport::buffer_bytes(shards, owners, rank, zero, [&](int wave) {
    std::optional<dist::WaveLayout> layout;  // at stage 0 the inputs lie in the momentum
    if (zero.keeps_slice) layout = dist::layout_of(shards, owners, rank, wave);
    return std::max(workspace(wave, layout), measuring_of(rank, wave));
  });
  add_pairs(rank, bytes);
  if (compression) add_compressed(rank, bytes);
  return bytes;
}

void ExecutionPlan::add_compressed(int rank, Bytes& bytes) const {
  const CompressionPlan& plan = *compression;
  const MatrixWorkspace workspace(plan.owners, plan.groups, plan.specs, options.device, rank);
  std::int64_t matrices = 0, moved = 0;
  for (const dist::MatrixTask& task : plan.owners.tasks()) matrices += task.elements;
  for (int w = 0; w < plan.owners.waves(); ++w) {
    std::int64_t owned = 0;
    for (const int t : plan.owners.wave(w))
      if (plan.owners.owner(t) == rank) owned += plan.owners.tasks()[core::at(t)].elements;
    const std::int64_t measuring =
        measuring_bytes(options.spectra, plan.owners, plan.groups, plan.specs, options.device, rank, w);
    moved = std::max(moved, 4 * owned + std::max(workspace(w), measuring));
  }
  const std::int64_t elements = matrices + plan.flat.padded_elements();
  const bool weights_are_read = options.weight_dtype == core::Dtype::float32;
  std::int64_t used = matrices;
  for (const dist::Bucket& bucket : plan.flat.buckets()) used += bucket.used;
  bytes.weights += weights_are_read ? 4 * elements : used * core::size_of(options.weight_dtype);
  bytes.gradients += 4 * elements;
  const dist::FeedbackPlan::Bytes feedback = plan.feedback.bytes(rank, shards.world_size());
  bytes.optimizer += (weights_are_read ? 0 : 4 * elements) + feedback.estimates;
  for (const Group& group : plan.groups.groups()) {
    const std::vector<Storage> states = group.config.storages();
    for (const int p : group.parameters) {
      const dist::Interval mine = plan.kept(p, rank);
      bytes.optimizer += stored_bytes(states, mine.begin, mine.count());
    }
  }
  bytes.optimizer += 4 * owned_states(plan.owners, plan.groups, plan.specs, rank).elements;
  // The two exchanges take turns.
  bytes.exchange = std::max(bytes.exchange, feedback.buffers + moved);
}

std::int64_t ExecutionPlan::snapshot_bytes(int rank) const {
  std::int64_t elements = 0;
  for (const Group& group : sharded_groups.groups())
    for (int p : group.parameters)
      elements +=
          (1 + static_cast<std::int64_t>(group.config.rule->states_of(Home::shard).size())) * shards.piece(p, rank).count();
  elements += owned_states(owners, sharded_groups, shards.parameters(), rank).elements;
  if (compression) elements += owned_states(compression->owners, compression->groups, compression->specs, rank).elements;
  return 4 * elements + (compression ? compression->snapshot_bytes(rank) : 0);
}

// All ranks together: from every other rank to the owner, and from the owner to every other rank.
double ExecutionPlan::compressed_bytes_sent() const {
  return static_cast<double>(compression->feedback.bytes_sent_by_all(shards.world_size())) / shards.world_size();
}

double ExecutionPlan::bytes_sent_by_passes(std::int64_t passes) const {
  const double n = shards.world_size(), share = (n - 1) / n, each_pass = static_cast<double>(passes);
  const auto padded = static_cast<double>(shards.padded_elements());
  const auto gathered_of = [&](const std::optional<dist::GatherPlan>& plan) {
    return plan ? static_cast<double>(plan->training().gathered) * each_pass : 0.0;
  };
  if (!zero.keeps_slice) {
    double sent = 0;
    for (const dist::Bucket& bucket : shards.buckets())
      sent += (dist::is_short(4 * bucket.used) ? n - 1 : 2 * share) * 4 * static_cast<double>(bucket.used);
    return sent;
  }
  const double reduced = zero.reduces_each_pass ? padded * each_pass : padded;
  const double gathered = gathered_of(gathers) + gathered_of(frozen_gathers);
  return share * (4 * reduced + static_cast<double>(core::size_of(options.weight_dtype)) * gathered);
}

double ExecutionPlan::bytes_sent_by_update() const {
  const double n = shards.world_size(), share = (n - 1) / n;
  std::int64_t matrices = 0, own = 0;
  for (int t = 0; t < core::to_int(owners.tasks().size()); ++t) {
    matrices += owners.tasks()[core::at(t)].elements;
    own += own_elements(owners, shards, t);
  }
  const double compressed = (compression ? compressed_bytes_sent() : 0) +
                            shared_bytes_sent(owners, sharded_groups, shards.parameters(), options.device) / n;
  if (!zero.keeps_slice) return compressed + 4 * share * static_cast<double>(matrices);
  // What leaves its rank of each matrix, there and back, and the all-gather of weights.
  const double weights = gathers ? 0 : static_cast<double>(core::size_of(options.weight_dtype) * shards.padded_elements());
  double partners_whole = 0;
  for (int b = 0; b < core::to_int(shards.buckets().size()); ++b)
    if (has_partner(b)) partners_whole += 4 * static_cast<double>(shards.buckets()[core::at(b)].size);
  return compressed + share * (weights + partners_whole) + 2 * 4 * static_cast<double>(matrices - own) / n;
}

std::uint64_t ExecutionPlan::hash() const {
  const std::string text = describe();
  return core::hash_bytes(text.data(), std::ssize(text));
}

std::string ExecutionPlan::describe() const {
  std::string text =
      fmt::format("zero {} buckets of {} waves of {} weights {}{}\n", options.zero, options.bucket_elements,
                  options.wave_elements, core::name_of(options.weight_dtype), options.offload ? " offload" : "");
  if (!options.spectra.empty()) text += fmt::format("spectra of [{}]\n", fmt::join(options.spectra, ", "));
  for (const Group& group : groups.groups())
    text += fmt::format("group {}: {}{}, lr {}, {} parameters, {} elements\n", group.config.name, group.config.rule->text(),
                        group.config.storage_text(), group.config.lr.text(), group.parameters.size(), group.elements);
  if (gathers) text += gathers->describe();
  text += shards.describe() + owners.describe();
  if (frozen) text += "\nfrozen: " + frozen->describe();
  if (frozen_gathers) text += "\nfrozen " + frozen_gathers->describe();
  if (compression)
    text += fmt::format("\ncompression: {}\n{}{}", options.compression.text(), compression->flat.describe(),
                        compression->owners.describe());
  return text;
}

}  // namespace muonp::optim
