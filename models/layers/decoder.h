// What decoder-only transformers have in common: a residual stream through blocks, a last norm, a head; and how they are
// trained, evaluated, and continue a text with a cache. A model adds its stream.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/autograd/ops/rotary.h"
#include "core/device/attention_shape.h"
#include "models/layers/decoder_cost.h"
#include "models/layers/layers.h"
#include "models/layers/qk_clip.h"
#include "models/model.h"

namespace muonp::models {

struct DecoderShape {
  std::int64_t layers, width, context, vocabulary;
  core::AttentionHeads heads;
  std::int64_t head_chunk_rows = 0;           // rows of logits held at a time; 0: all of the micro-batch
  core::Dtype logits = core::Dtype::float32;  // while training
};

// What a block reads: the norm and the projection into a sub-layer, and what follows.
struct BlockReads {
  core::WeightReads into_attention, out_of_attention, into_mlp, out_of_mlp;
};

// What a forward pass is given beside its tokens. Copies are cheap.
struct Pass {
  std::optional<DropoutKey> dropout;
  core::Tensor begins = {};            // as TokenBatch's
  core::Tensor begins_on_device = {};  // the same, on the tape's device
  KeyValueCache* cache = nullptr;      // the tokens go on behind what is there; else they are whole sequences
  core::Tensor largest_logits = {};    // [layers, query heads], which attention raises; no tensor: not wanted

  // The longest sequence that is seen, with the `time` tokens that are new.
  std::int64_t longest(std::int64_t time) const;
  // The positions of tokens [batch, time] in their documents, int32; no tensor where they are the time index.
  core::Tensor places(const core::Tensor& tokens) const;
};

class Decoder : public LanguageModel {
 public:
  QkClip* qk_clip() final { return clip_ ? &*clip_ : nullptr; }
  const core::ParameterList& parameters() final { return set_.list(); }
  std::int64_t vocabulary() const final { return shape_.vocabulary; }
  std::int64_t context() const final { return shape_.context; }
  core::WeightReads weight_reads() const final;
  std::vector<core::PassStretch> stretches(const PassShape& shape) const final;
  core::Variable loss(core::Tape& tape, const TokenBatch& batch, const DropoutKey& key) final;
  core::Tensor token_losses(core::Tape& tape, const TokenBatch& batch) final;
  core::Tensor next_token_logits(core::Tape& tape, const core::Tensor& inputs) final;
  core::Tensor logits(core::Tape& tape, const core::Tensor& inputs) final;
  KeyValueCache make_cache(core::Device& device, std::int64_t batch, std::int64_t capacity, core::Dtype dtype) const final;
  core::Tensor next_logits(core::Tape& tape, const core::Tensor& inputs, std::span<const std::int64_t> counts,
                           KeyValueCache& cache) final;

 protected:
  Decoder(const DecoderShape& shape, const LoraConfig& lora, const QkClipConfig& clip) : set_(lora), shape_(shape) {
    if (clip.enabled) clip_.emplace(clip, shape.heads);
  }
  bool clips() const { return clip_.has_value(); }
  // Of the next layer; nothing to do where logits are not clipped.
  void add_logits(const HeadRows& queries, const HeadRows& keys) {
    if (clip_) clip_->add_layer(queries, keys);
  }
  // "12.3 M parameters", and how many of them are trained.
  std::string count_text() const;
  // What frozen weights save of a pass's floating-point operations, as a negative number, and what adapters add.
  double lora_flops(std::int64_t batch, std::int64_t time) const;
  // The most that an adapter takes for itself in a backward pass.
  std::int64_t lora_bytes(std::int64_t batch, std::int64_t time, core::Dtype dtype) const;
  // The last parameters: the norm, and the head unless it is tied to the token embedding.
  void add_end(const std::string& norm, NormKind kind, bool bias, float epsilon, const std::string& head, double stddev,
               core::Parameter* tied);

  // The residual stream behind the last block, [batch, time, width].
  virtual Residual stream(core::Tape& tape, const core::Tensor& inputs, const Pass& pass) const = 0;
  // What it reads: the embeddings, then block after block; whose backward pass reads all of its forward pass again where it
  // is recomputed.
  virtual std::vector<core::Parameter*> embeddings() const = 0;
  virtual std::vector<BlockReads> block_reads() const = 0;
  virtual bool recomputes() const = 0;
  virtual DecoderPeaks peaks(const PassShape& shape) const = 0;

  ParameterSet set_;

 private:
  // Behind the last norm.
  core::Variable read(core::Tape& tape, const TokenBatch& batch, const std::optional<DropoutKey>& dropout);
  // The embeddings, DecoderPeaks' parts of each block, the last norm and the head.
  std::vector<core::WeightReads> reads_by_part() const;
  Residual checked_stream(core::Tape& tape, const core::Tensor& inputs, const Pass& pass) const;
  // Of some rows of the stream, float32.
  core::Tensor logits_of(core::Tape& tape, const core::Tensor& rows) const;

  DecoderShape shape_;
  std::optional<QkClip> clip_;
  std::optional<Norm> final_norm_;
  core::Parameter* head_ = nullptr;
};

// Attention over a packed projection: within the pass's documents, or behind the positions of layer `layer` of its cache.
core::Variable attend(core::Tape& tape, const core::Variable& qkv, const core::AttentionHeads& heads, const Pass& pass,
                      std::int64_t layer);
// Queries and keys turned by the angles of their positions.
core::Variable turn(core::Tape& tape, const core::Variable& qkv, const core::AttentionHeads& heads,
                    core::ops::RotaryTable& angles, const Pass& pass);
// Runs block(tape, x), keeping no more than the sum of x for the backward pass where `recompute` is set.
template <class Block>
Residual run_block(core::Tape& tape, Residual x, bool recompute, const Block& block) {
  if (!recompute) return block(tape, std::move(x));
  const auto whole = [block](core::Tape& t, const core::Variable& in) { return sum_of(t, block(t, {in})); };
  return {tape.checkpoint(sum_of(tape, x), whole)};
}

}  // namespace muonp::models
