#include <algorithm>
#include <unordered_map>

#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/comm/operation.h"
#include "dist/zero/reducer.h"
#include "optim/plan/step_tasks.h"

namespace muonp::optim {

using core::at;
using dist::Pattern;

StopWalk::StopWalk(const dist::ShardPlan& shards, const dist::GatherPlan& gathers, core::Dtype type, StepGraph& graph,
                   const dist::ClusterView& cluster)
    : shards_(shards),
      stops_(gathers.training().stops),
      size_(static_cast<double>(core::size_of(type))),
      graph_(graph),
      cluster_(cluster),
      gathered_(shards.buckets().size(), -1) {}

void StopWalk::acquire(const std::vector<int>& parameters) {
  if (parameters.empty() || (entered_ > 0 && reads(stops_[entered_ - 1], parameters)) || entered_ == stops_.size()) return;
  const dist::GatherPlan::Stop& stop = stops_[entered_++];
  const double n = cluster_.ranks();
  for (const int bucket : stop.gather) {
    const double slice = size_ * static_cast<double>(shards_.buckets()[at(bucket)].size) / n;
    const bool is_short = dist::is_short(static_cast<std::int64_t>(slice));
    gathered_[at(bucket)] = graph_.communicate(StepPhase::gather, Pattern::all_gather, (n - 1) * slice, (n - 1) * slice,
                                               cluster_.rounds(Pattern::all_gather, is_short));
  }
  for (const int bucket : stop.read) graph_.wait(gathered_[at(bucket)]);
}

bool StopWalk::reads(const dist::GatherPlan::Stop& stop, const std::vector<int>& parameters) const {
  return std::ranges::all_of(parameters,
                             [&](int p) { return std::ranges::find(stop.read, shards_.bucket_of(p)) != stop.read.end(); });
}

namespace {

using Numbers = std::unordered_map<const core::Parameter*, int>;

std::vector<int> numbers_of(const std::vector<core::Parameter*>& parameters, const Numbers& numbers) {
  std::vector<int> found;
  for (const core::Parameter* p : parameters)
    if (const auto entry = numbers.find(p); entry != numbers.end()) found.push_back(entry->second);
  return found;
}

DeviceWork work_of(const OperationWork& operation, core::Dtype type, const dist::ClusterView& cluster) {
  DeviceWork work{.memory = operation.traffic, .kernels = operation.kernels};
  for (const dist::Work& product : operation.products) {
    const double multiplying = cluster.product_seconds(type, product), moving = cluster.memory_seconds(product.bytes);
    (multiplying >= moving ? work.products : work.elsewhere) += std::max(multiplying, moving);
    work.flops += product.flops;
  }
  return work;
}

// The parameters that a plan's parts count, by name: the plan keeps no pointers.
Numbers numbers_by_name(const std::vector<OperationWork>& operations, const std::vector<dist::ParameterSpec>& specs) {
  std::unordered_map<std::string_view, int> by_name;
  for (int p = 0; p < core::to_int(specs.size()); ++p) by_name[specs[at(p)].name] = p;
  Numbers numbers;
  for (const OperationWork& operation : operations)
    for (const auto* list : {&operation.reads, &operation.completes})
      for (const core::Parameter* p : *list)
        if (const auto entry = by_name.find(p->name); entry != by_name.end()) numbers[p] = entry->second;
  return numbers;
}

}  // namespace

StepTasks::StepTasks(const ExecutionPlan& plan, const PassWork& work, const dist::ClusterView& cluster, StepScheme scheme)
    : plan_(plan),
      cluster_(cluster),
      scheme_(scheme),
      n_(plan.shards.world_size()),
      weight_bytes_(static_cast<double>(core::size_of(plan.options.weight_dtype))) {
  for (const auto& [from, to] : {std::pair(&work.forward, &forward_), std::pair(&work.backward, &backward_)}) {
    const Numbers sharded = numbers_by_name(*from, plan.shards.parameters());
    const Numbers frozen = plan.frozen ? numbers_by_name(*from, plan.frozen->parameters()) : Numbers();
    for (const OperationWork& operation : *from)
      to->push_back({work_of(operation, work.type, cluster), numbers_of(operation.reads, sharded),
                     numbers_of(operation.reads, frozen), numbers_of(operation.completes, sharded)});
  }
  std::vector<bool> met(plan.shards.parameters().size(), false);
  for (const Operation& operation : backward_)
    for (const int p : operation.completes) met[at(p)] = true;
  for (int p = core::to_int(met.size()); p-- > 0;)
    if (!met[at(p)]) last_completed_.push_back(p);
  waves_ = exact_waves(plan, cluster, scheme == StepScheme::replicated || scheme == StepScheme::gathered);
  if (plan.compression) compressed_ = compressed_waves(plan, cluster);
}

// Two steps, so that what one leaves running is met by the next.
StepPrediction StepTasks::run(std::int64_t passes) {
  constexpr int kSteps = 2;
  graph_.emplace(cluster_, plan_.options.overlap);
  if (plan_.gathers) walk_.emplace(plan_.shards, *plan_.gathers, plan_.options.weight_dtype, *graph_, cluster_);
  if (plan_.frozen_gathers)
    frozen_walk_.emplace(*plan_.frozen, *plan_.frozen_gathers, plan_.options.weight_dtype, *graph_, cluster_);
  gathers_.assign(plan_.shards.buckets().size(), -1);
  one_step(passes);
  const int from = graph_->mark();
  one_step(passes);
  StepPrediction step;
  step.phases = graph_->costs(from, graph_->mark(), kSteps);
  step.passes = step.simulated_passes = passes;
  step.spans = graph_->spans(from, graph_->mark());
  return step;
}

void StepTasks::one_step(std::int64_t passes) {
  for (std::int64_t p = 0; p < passes; ++p) pass(p == 0, p == passes - 1);
  prepare();
  update();
  if (!cluster_.cluster().gpus) finish_weights();
}

void StepTasks::pass(bool first, bool last) {
  first_ = first;
  if (walk_) walk_->begin();
  if (frozen_walk_) frozen_walk_->begin();
  missing_.clear();
  for (const dist::Bucket& bucket : plan_.shards.buckets()) missing_.push_back(core::to_int(bucket.parameters.size()));
  next_bucket_ = 0;
  for (const Operation& operation : forward_) {
    acquire(operation);
    graph_->compute(StepPhase::forward, operation.work);
  }
  for (const Operation& operation : backward_) {
    acquire(operation);
    graph_->compute(StepPhase::backward, operation.work);
    for (const int p : operation.completes) complete(p, last);
  }
  for (const int p : last_completed_) complete(p, last);
}

void StepTasks::acquire(const Operation& operation) {
  if (walk_) walk_->acquire(operation.reads);
  if (frozen_walk_) frozen_walk_->acquire(operation.frozen_reads);
  if (!walk_)
    for (const int p : operation.reads) graph_->wait(std::exchange(gathers_[at(plan_.shards.bucket_of(p))], -1));
}

// As GradientReducer: in the order of the plan, each bucket when its last gradient is there.
void StepTasks::complete(int parameter, bool last) {
  --missing_[at(plan_.shards.bucket_of(parameter))];
  for (; next_bucket_ < core::to_int(missing_.size()) && missing_[at(next_bucket_)] <= 0; ++next_bucket_) {
    if (!last && !plan_.zero.reduces_each_pass) continue;
    reduce(next_bucket_);
    if (plan_.zero.reduces_each_pass && core::to_int(in_flight_.size()) >= dist::whole_buckets_alive(plan_.options.overlap))
      retire();
  }
}

void StepTasks::reduce(int bucket) {
  const dist::Bucket& layout = plan_.shards.buckets()[at(bucket)];
  const bool slices = plan_.zero.keeps_slice;
  const double bytes = 4 * static_cast<double>(slices ? layout.size : layout.used);
  const bool is_short = !slices && dist::is_short(4 * layout.used);
  const double sent = is_short ? (n_ - 1) * bytes : (slices ? 1 : 2) * (n_ - 1) / n_ * bytes;
  const Pattern pattern = slices ? Pattern::reduce_scatter : Pattern::all_reduce;
  in_flight_.emplace_back(bucket,
                          graph_->communicate(StepPhase::reduce, pattern, sent, sent, cluster_.rounds(pattern, is_short)));
}

// The oldest reduction; its slice is kept, or added to what is there.
void StepTasks::retire() {
  const auto [bucket, ticket] = in_flight_.front();
  in_flight_.pop_front();
  graph_->wait(ticket);
  if (!plan_.zero.reduces_each_pass) return;
  const double slice = kept(static_cast<double>(plan_.shards.buckets()[at(bucket)].size));
  graph_->compute(StepPhase::backward, {.memory = (first_ ? 8 : 12) * slice});
}

void StepTasks::finish_weights() {
  for (StepGraph::Ticket& ticket : gathers_) graph_->wait(std::exchange(ticket, -1));
}

// The norm of what this rank keeps of each gradient's mean, or of all of its own where they are compressed.
void StepTasks::prepare() {
  finish_weights();
  while (!in_flight_.empty()) retire();
  double elements = static_cast<double>(plan_.shards.padded_elements()) / n_;
  for (const WaveLoad& wave : compressed_) elements += wave.elements;
  int norms = 0;
  for (const Group& group : plan_.groups.groups())
    if (group.config.rule->needs().gradient_norm) norms += core::to_int(group.parameters.size());
  graph_->compute(StepPhase::agree, {.memory = 4 * elements, .kernels = 2});
  graph_->agree(2 + norms);
  graph_->agree(3);
}

}  // namespace muonp::optim
