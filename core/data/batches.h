// Batches of sequences: for training in a shuffled order, for validation each once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/data/sample_order.h"
#include "core/data/sequences.h"

namespace muonp::core {

// Batches for training. Sample i of a step is the same whoever asks.
class TrainBatches {
 public:
  struct Part {
    SequencesHandle sequences;
    double weight = 1;  // as in MixedOrder
  };
  // At least one part; all of one length, all packed or none.
  TrainBatches(std::vector<Part> parts, std::int64_t batch, std::uint64_t seed, bool shuffle);
  // One part.
  TrainBatches(SequencesHandle sequences, std::int64_t batch, std::uint64_t seed, bool shuffle)
      : TrainBatches({Part{std::move(sequences)}}, batch, seed, shuffle) {}

  const MixedOrder& order() const { return order_; }
  std::int64_t sequence() const { return parts_.front().sequences->length(); }
  bool packed() const { return parts_.front().sequences->packed(); }
  // Counted targets of the whole step.
  std::int64_t counted(std::int64_t step) const;
  // Samples [first, first + count) of `step`, one sequence after the other.
  void fill_batch(std::int64_t step, std::int64_t first, std::int64_t count, const SequenceSpans& to) const;

 private:
  std::vector<Part> parts_;
  MixedOrder order_;
};

// All sequences of the parts in their order, each once.
class ValidationBatches {
 public:
  explicit ValidationBatches(std::vector<SequencesHandle> parts);  // at least one; of one length, all packed or none
  explicit ValidationBatches(SequencesHandle sequences) : ValidationBatches(std::vector{std::move(sequences)}) {}
  std::int64_t sequences() const { return count_; }
  std::int64_t sequence() const { return parts_.front()->length(); }
  bool packed() const { return parts_.front()->packed(); }
  // Sequences [first, first + count), laid out as above.
  void fill_batch(std::int64_t first, std::int64_t count, const SequenceSpans& to) const;

 private:
  std::vector<SequencesHandle> parts_;
  std::int64_t count_ = 0;
};

// Targets that are counted: those that are ids.
std::int64_t counted_targets(std::span<const std::int32_t> targets);

}  // namespace muonp::core
