// What a trainer needs of a language model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/autograd/autograd.h"

namespace muonp::models {

struct TokenBatch {
  core::Tensor inputs;   // int32 [batch, time]
  core::Tensor targets;  // int32 [batch, time]; −1 is not counted
  // Where documents are packed into sequences: int32 [batch, time], the first position of the document that position t
  // belongs to; attention stays within it, and positions count from it. Empty: one document a sequence.
  core::Tensor begins = {};
};

// What the memory of a pass depends on beside the model: `batch` sequences of `time` tokens, activations of a type on a
// device, and whether documents are packed into the sequences.
struct PassShape {
  std::int64_t batch, time;
  core::Dtype dtype;
  core::DeviceKind device;
  bool documents = false;
};

struct DropoutKey {  // dropout masks depend on these and on the global row, not on the number of ranks
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::int64_t first_row = 0;  // index in the global batch of this micro-batch's first sequence
};

// The keys and values of sequences that are being continued.
struct KeyValueCache {
  struct Layer {
    core::Tensor keys, values;  // [batch, capacity, key heads · head size], in the type of activations
  };
  std::vector<Layer> layers;
  std::int64_t capacity = 0;          // positions of a sequence
  std::vector<std::int64_t> lengths;  // by sequence: the positions that are there

  std::int64_t batch() const { return std::ssize(lengths); }
  // The same memory, for sequence b alone; its length is a copy.
  KeyValueCache sequence(std::int64_t b) const;
};

class QkClip;

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const core::ParameterList& parameters() = 0;  // in order of first use
  virtual std::string description() const = 0;          // "GPT, 12 layers, 768 wide, 12 heads, 124.4 M parameters"
  virtual std::int64_t vocabulary() const = 0;
  virtual std::int64_t context() const = 0;  // longest sequence
  // Where the largest attention logits of passes that a tape records are kept, and clipped; null where they are not.
  virtual QkClip* qk_clip() { return nullptr; }
  // What loss() and its backward pass acquire, in order; token_losses(), logits(), next_token_logits() and next_logits()
  // acquire what the forward pass does.
  virtual core::WeightReads weight_reads() const = 0;

  // Mean cross-entropy over the counted targets, as a float32 scalar. Dropout only if the tape records.
  virtual core::Variable loss(core::Tape& tape, const TokenBatch& batch, const DropoutKey& key) = 0;
  // The cross-entropy of every target: float32 [batch, time], 0 where it is not counted. On a tape that does not record.
  virtual core::Tensor token_losses(core::Tape& tape, const TokenBatch& batch) = 0;
  // Logits of the last position of each sequence: float32 [batch, vocabulary].
  virtual core::Tensor next_token_logits(core::Tape& tape, const core::Tensor& inputs) = 0;
  // Logits of every position: float32 [batch, time, vocabulary].
  virtual core::Tensor logits(core::Tape& tape, const core::Tensor& inputs) = 0;

  // Generation. A cache for `batch` sequences of up to `capacity` positions (at most context()), all of them empty, for
  // activations of `dtype`. Category::activations.
  virtual KeyValueCache make_cache(core::Device& device, std::int64_t batch, std::int64_t capacity,
                                   core::Dtype dtype) const = 0;
  // Goes on by counts[b] tokens in sequence b, the first of inputs[b] (int32 [batch, new]); what stands behind them has no
  // effect. Puts them into the cache and returns the logits behind the last of them: float32 [batch, vocabulary].
  virtual core::Tensor next_logits(core::Tape& tape, const core::Tensor& inputs, std::span<const std::int64_t> counts,
                                   KeyValueCache& cache) = 0;

  // Cost model: floating-point operations of matrix products, forward and backward together (no recomputation
  // counted), and peak bytes of activations of one micro-batch, of all of the pass and where it is: in the order of the
  // forward pass, stretches of which all operations of weight_reads() are.
  virtual double step_flops(std::int64_t batch, std::int64_t time) const = 0;
  // Of these, what is counted by convention and never computed; a rate beside the machine's leaves it out.
  virtual double skipped_flops(std::int64_t batch, std::int64_t time) const = 0;
  // What the backward pass computes again beside that.
  virtual double recomputed_flops(std::int64_t batch, std::int64_t time) const = 0;
  virtual std::vector<core::PassStretch> stretches(const PassShape& shape) const = 0;
  std::int64_t activation_bytes(const PassShape& shape) const {
    std::int64_t most = 0;
    for (const core::PassStretch& s : stretches(shape)) most = std::max(most, s.activations);
    return most;
  }
};

}  // namespace muonp::models
