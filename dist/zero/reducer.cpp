#include "dist/zero/reducer.h"

#include <algorithm>

#include "core/base/index.h"
#include "core/base/math.h"
#include "core/device/for_each.h"

namespace muonp::dist {

using core::at;
using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

struct Keep {
  const float* from;
  float* to;
  bool add;
  MUONP_HD void operator()(std::int64_t i) const { to[i] = add ? to[i] + from[i] : from[i]; }
};

}  // namespace

std::vector<std::int64_t> GradientReducer::whole_by_operation(const ShardPlan& plan, const core::ParameterList& parameters,
                                                              const core::WeightReads::List& reads, bool overlap) {
  std::unordered_map<const core::Parameter*, int> index, uses;
  for (std::size_t p = 0; p < parameters.size(); ++p) index[parameters[p]] = core::to_int(p);
  for (const auto& operation : reads)
    for (const core::Parameter* p : operation) ++uses[p];
  // What no operation reads is complete, as zeros, when the pass is over, one after the other.
  std::vector<std::vector<int>> order;
  for (std::size_t p = 0; p < parameters.size(); ++p)
    if (uses.try_emplace(parameters[p], 1).second) order.push_back({core::to_int(p)});
  const auto first = static_cast<std::ptrdiff_t>(order.size());
  for (const auto& operation : reads) {
    std::vector<int>& planned = order.emplace_back();
    for (const core::Parameter* p : operation)
      if (const auto found = index.find(p); found != index.end()) planned.push_back(found->second);
  }

  const auto& buckets = plan.buckets();
  std::vector<int> missing;
  for (const Bucket& bucket : buckets) missing.push_back(core::to_int(bucket.parameters.size()));
  std::vector<bool> open(buckets.size(), false);
  std::deque<std::size_t> in_flight;
  std::int64_t held = 0;
  std::size_t next = 0;
  std::vector<std::int64_t> whole(order.size(), 0);
  for (std::size_t i = order.size(); i-- > 0;) {
    for (const int p : order[i]) {
      const auto bucket = at(plan.bucket_of(p));
      if (!open[bucket]) held += buckets[bucket].size;
      open[bucket] = true;
    }
    whole[i] = held;
    for (const int p : order[i])
      if (--uses[parameters[at(p)]] == 0) --missing[at(plan.bucket_of(p))];
    for (; next < buckets.size() && missing[next] == 0; ++next) {
      in_flight.push_back(next);
      if (core::to_int(in_flight.size()) < whole_buckets_alive(overlap)) continue;
      held -= buckets[in_flight.front()].size;
      in_flight.pop_front();
    }
  }
  if (reads.empty()) return {};
  whole[at(first)] = *std::max_element(whole.begin(), whole.begin() + first + 1);
  return {whole.begin() + first, whole.end()};
}

GradientReducer::GradientReducer(core::Device& device, const ShardedParameters& parameters, Communicator& communicator,
                                 AsyncQueue& async, bool overlap)
    : device_(device), parameters_(parameters), communicator_(communicator), async_(async), overlap_(overlap) {
  const ShardPlan& plan = parameters_.plan();
  full_.resize(plan.buckets().size());
  written_.assign(plan.parameters().size(), false);
  missing_.resize(plan.buckets().size());
  for (int p = 0; p < core::to_int(parameters_.parameters().size()); ++p) index_[parameters_.parameters()[at(p)]] = p;
  if (!sharded()) return;
  for (int b = 0; b < core::to_int(plan.buckets().size()); ++b)
    slices_.push_back(Tensor::empty(device_, {parameters_.kept_of_bucket(b).count()}, Dtype::float32, Category::gradients));
}

void GradientReducer::begin_pass(bool first, bool last) {
  MUONP_ASSERT(state_ != State::in_pass, "the previous backward pass is not complete");
  MUONP_ASSERT(first || state_ == State::idle, "a pass was added to gradients that are already reduced");
  while (!in_flight_.empty()) retire();
  state_ = State::in_pass;
  first_ = first;
  last_ = last;
  next_bucket_ = 0;
  const auto& buckets = parameters_.plan().buckets();
  for (std::size_t b = 0; b < buckets.size(); ++b) missing_[b] = core::to_int(buckets[b].parameters.size());
  if (first) written_.assign(written_.size(), false);
  if (buckets.empty()) state_ = last ? State::reduced : State::idle;
}

Tensor& GradientReducer::full_bucket(int bucket) {
  Tensor& full = full_[at(bucket)];
  if (!full) {
    const Bucket& layout = parameters_.plan().buckets()[at(bucket)];
    full = Tensor::empty(device_, {layout.size}, Dtype::float32, Category::gradients);
    full.flat(layout.used, layout.size - layout.used).zero(device_.queue());
    for (int p : layout.parameters) written_[at(p)] = false;
  }
  return full;
}

core::GradientSlot GradientReducer::slot(core::Parameter& parameter) {
  MUONP_ASSERT(state_ == State::in_pass, "{}: a gradient outside a pass", parameter.name);
  const int p = index_.at(&parameter);
  const Interval where = parameters_.plan().in_bucket(p);
  const Tensor& full = full_bucket(parameters_.plan().bucket_of(p));
  parameter.gradient = full.flat(where.begin, where.count()).view(parameter.shape);
  const bool add = written_[at(p)];
  written_[at(p)] = true;
  return {parameter.gradient, add};
}

void GradientReducer::complete(core::Parameter& parameter) {
  const int p = index_.at(&parameter);
  MUONP_ASSERT(state_ == State::in_pass, "{} completed outside a pass", parameter.name);
  MUONP_ASSERT(written_[at(p)], "{} completed without a gradient", parameter.name);
  const int bucket = parameters_.plan().bucket_of(p);
  MUONP_ASSERT(missing_[at(bucket)] > 0, "{} completed twice in one pass", parameter.name);
  --missing_[at(bucket)];
  const int buckets = core::to_int(missing_.size());
  while (next_bucket_ < buckets && missing_[at(next_bucket_)] == 0) {
    if (reduces()) launch(next_bucket_);
    ++next_bucket_;
  }
  if (next_bucket_ == buckets) state_ = last_ ? State::reduced : State::idle;
}

void GradientReducer::launch(int bucket) {
  const Span full(full_[at(bucket)]);
  const std::int64_t used = parameters_.plan().buckets()[at(bucket)].used;
  const bool whole = !parameters_.zero().keeps_slice;
  const auto ticket = async_.submit([this, full, used, whole] {
    if (whole)
      communicator_.all_reduce(full.part(0, used), Reduce::sum);
    else
      communicator_.reduce_scatter(full);
  });
  in_flight_.push_back({bucket, ticket});
  if (sharded() && core::to_int(in_flight_.size()) >= whole_buckets_alive(overlap_)) retire();
}

void GradientReducer::retire() {
  const InFlight oldest = in_flight_.front();
  in_flight_.pop_front();
  async_.wait(oldest.ticket);
  if (!sharded()) return;
  Tensor& full = full_[at(oldest.bucket)];
  const Interval kept = parameters_.kept_of_bucket(oldest.bucket);
  const float* from = full.data<float>() + kept.begin;
  float* to = slices_[at(oldest.bucket)].data<float>();
  core::for_each(device_.queue(), kept.count(), Keep{from, to, !first_});
  for (int p : parameters_.plan().buckets()[at(oldest.bucket)].parameters)
    parameters_.parameters()[at(p)]->gradient = Tensor();
  full = Tensor();
}

void GradientReducer::finish() {
  MUONP_ASSERT(state_ != State::in_pass, "the backward pass left gradients incomplete");
  MUONP_ASSERT(state_ == State::reduced, "no last backward pass {} the optimizer's step",
               state_ == State::finished ? "since" : "before");
  while (!in_flight_.empty()) retire();
  state_ = State::finished;
}

Tensor GradientReducer::reduced(int parameter) const {
  MUONP_ASSERT(state_ == State::finished, "gradients are not reduced");
  const int bucket = parameters_.plan().bucket_of(parameter);
  const Interval part = parameters_.kept(parameter), kept = parameters_.kept_of_bucket(bucket);
  const Tensor& held = sharded() ? slices_[at(bucket)] : full_[at(bucket)];
  if (part.empty()) return held.flat(0, 0);
  const std::int64_t begin = parameters_.plan().in_bucket(parameter).begin + part.begin;
  return held.flat(begin - (sharded() ? kept.begin : 0), part.count());
}

}  // namespace muonp::dist
