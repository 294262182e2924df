#include "dist/zero/weight_gatherer.h"

#include "core/base/index.h"
#include "core/base/math.h"

#include <algorithm>
#include <utility>

namespace muonp::dist {

namespace {

std::unordered_map<const core::Parameter*, int> buckets_of(const ShardedParameters& parameters) {
  std::unordered_map<const core::Parameter*, int> buckets;
  for (int p = 0; p < core::to_int(parameters.parameters().size()); ++p)
    buckets[parameters.parameters()[core::at(p)]] = parameters.plan().bucket_of(p);
  return buckets;
}

}  // namespace

StepGatherer::StepGatherer(const ShardedParameters& parameters, Communicator& communicator, AsyncQueue& async)
    : parameters_(parameters), communicator_(communicator), async_(async), bucket_of_(buckets_of(parameters)) {
  in_flight_.resize(parameters_.plan().buckets().size());
}

void StepGatherer::updated(int bucket) {
  if (!parameters_.zero().keeps_slice) return;
  in_flight_[core::at(bucket)] = async_.submit([this, bucket] { parameters_.gather_weights(bucket, communicator_); });
}

void StepGatherer::acquire(std::span<core::Parameter* const> parameters) {
  for (const core::Parameter* p : parameters) {
    const auto bucket = static_cast<std::size_t>(bucket_of_.at(p));
    const AsyncQueue::Ticket ticket = std::exchange(in_flight_[bucket], {});
    if (ticket.number > 0) async_.wait(ticket);
  }
}

void StepGatherer::finish() {
  for (AsyncQueue::Ticket& ticket : in_flight_)
    if (const AsyncQueue::Ticket taken = std::exchange(ticket, {}); taken.number > 0) async_.wait(taken);
}

PassGatherer::PassGatherer(ShardedParameters& parameters, const GatherPlan& plan, Communicator& communicator,
                           AsyncQueue& async)
    : parameters_(parameters), plan_(plan), communicator_(communicator), async_(async), bucket_of_(buckets_of(parameters)) {}

void PassGatherer::begin_pass(bool backward) {
  finish();
  pass_ = backward ? &plan_.training() : &plan_.forward();
  entered_ = 0;
}

bool PassGatherer::reads(const GatherPlan::Stop& stop, std::span<core::Parameter* const> parameters) const {
  return std::ranges::all_of(parameters, [&](const core::Parameter* p) {
    return std::ranges::find(stop.read, bucket_of_.at(p)) != stop.read.end();
  });
}

void PassGatherer::acquire(std::span<core::Parameter* const> parameters) {
  MUONP_ASSERT(pass_, "{} is read outside a pass", parameters.front()->name);
  if (entered_ > 0 && reads(pass_->stops[entered_ - 1], parameters)) return;
  MUONP_ASSERT(entered_ < pass_->stops.size() && reads(pass_->stops[entered_], parameters),
               "{} is not what the model said it reads next", parameters.front()->name);
  enter(pass_->stops[entered_++]);
}

void PassGatherer::enter(const GatherPlan::Stop& stop) {
  for (int bucket : stop.release) {
    const auto whole = std::ranges::find(whole_, bucket, &Whole::bucket);
    async_.wait(whole->gathered);
    parameters_.close(bucket);
    whole_.erase(whole);
  }
  for (int bucket : stop.gather) {
    parameters_.open(bucket);
    whole_.push_back({bucket, async_.submit([this, bucket] { parameters_.gather_weights(bucket, communicator_); })});
  }
  for (int bucket : stop.read) {
    const auto whole = std::ranges::find(whole_, bucket, &Whole::bucket);
    async_.wait(whole->gathered);
    parameters_.expose(bucket);
  }
}

void PassGatherer::finish() {
  for (const Whole& whole : whole_) {
    async_.wait(whole.gathered);
    parameters_.close(whole.bucket);
  }
  whole_.clear();
  pass_ = nullptr;
}

}  // namespace muonp::dist
