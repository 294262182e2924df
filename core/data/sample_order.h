// Which part of the data is sample i of step s: a function of (seed, s, i, size of the data) alone. It does
// not depend on the number of ranks, and a run that resumes needs to know nothing but its step.
#pragma once

#include <cstdint>

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

}  // namespace muonp::core
