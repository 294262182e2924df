#include "dist/weight_gatherer.h"

#include <utility>

namespace muonp::dist {

WeightGatherer::WeightGatherer(const ShardedParameters& parameters, Communicator& communicator, AsyncQueue& async)
    : parameters_(parameters), communicator_(communicator), async_(async) {
  in_flight_.resize(parameters_.plan().buckets().size());
  for (int p = 0; p < static_cast<int>(parameters_.parameters().size()); ++p)
    bucket_of_[parameters_.parameters()[static_cast<std::size_t>(p)]] = parameters_.plan().bucket_of(p);
}

void WeightGatherer::start(int bucket) {
  if (parameters_.stage() == 0) return;
  in_flight_[static_cast<std::size_t>(bucket)] =
      async_.submit([this, bucket] { parameters_.gather_weights(bucket, communicator_); });
}

void WeightGatherer::acquire(core::Parameter& parameter) {
  const auto bucket = static_cast<std::size_t>(bucket_of_.at(&parameter));
  const AsyncQueue::Ticket ticket = std::exchange(in_flight_[bucket], {});
  if (ticket.number > 0) async_.wait(ticket);
}

void WeightGatherer::finish() {
  for (AsyncQueue::Ticket& ticket : in_flight_)
    if (const AsyncQueue::Ticket taken = std::exchange(ticket, {}); taken.number > 0) async_.wait(taken);
}

}  // namespace muonp::dist
