// Which part of the data is sample i of step s: a function of (seed, s, i, size of the data) alone. It does
// not depend on the number of ranks, and a run that resumes needs to know nothing but its step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace muonp::core {

// A permutation of [0, size) for each key, computed entry by entry without a table: a Feistel network on the
// next power of four (Luby and Rackoff, 1988) whose rounds are Philox, repeated until it lands inside (cycle
// walking; Black and Rogaway, CT-RSA 2002).
std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t seed, std::uint64_t key);

// Windows are the stretches [w·sequence, w·sequence + sequence] of the data (sequence inputs, and the targets
// one later); each is seen once an epoch, in a new order every epoch. Steps run on across the border between
// epochs.
class SampleOrder {
 public:
  // windows ≥ 1, batch ≥ 1 (samples per step). Not shuffled: windows in the data's order.
  SampleOrder(std::int64_t windows, std::int64_t batch, std::uint64_t seed, bool shuffle);

  std::int64_t windows() const { return windows_; }
  std::int64_t batch() const { return batch_; }
  // The window of sample i ∈ [0, batch) of `step` ≥ 0.
  std::int64_t window(std::int64_t step, std::int64_t i) const;
  // Epochs that are over before sample 0 of `step`.
  std::int64_t epoch(std::int64_t step) const { return step * batch_ / windows_; }

 private:
  std::int64_t windows_, batch_;
  std::uint64_t seed_;
  bool shuffle_;
};

// The order over several parts of the data, of which some are seen more often than others. Each epoch has
// max(1, round(weight · size)) samples of a part, and the epoch's samples of all parts are shuffled together as SampleOrder
// shuffles windows. A part's samples go round and round through its sequences: of a part with a whole weight each epoch has
// every sequence that often; of weight 1/2 each epoch has another half of it, in a fixed random order of the part. One part
// of weight 1 is a SampleOrder.
class MixedOrder {
 public:
  struct Part {
    std::int64_t size = 1;
    double weight = 1;
  };
  struct Place {
    std::size_t part = 0;
    std::int64_t index = 0;
    bool operator==(const Place&) const = default;
  };
  // At least one part; sizes ≥ 1, weights > 0, batch ≥ 1. Not shuffled: one part after the other, each in its own order.
  MixedOrder(const std::vector<Part>& parts, std::int64_t batch, std::uint64_t seed, bool shuffle);

  std::int64_t batch() const { return order_.batch(); }
  std::int64_t epoch_samples() const { return order_.windows(); }
  std::int64_t samples_of(std::size_t part) const { return parts_[part].samples; }  // in an epoch
  // Of sample i ∈ [0, batch) of `step` ≥ 0.
  Place place(std::int64_t step, std::int64_t i) const;

 private:
  struct Share {
    std::int64_t size, samples, begin;  // `begin`: of its samples among all of an epoch
  };
  static std::vector<Share> shares(const std::vector<Part>& parts);
  std::vector<Share> parts_;
  SampleOrder order_;
  std::uint64_t seed_;
  bool shuffle_;
};

}  // namespace muonp::core
