#include "models/gpt/gpt.h"

#include <cmath>
#include <optional>
#include <vector>

#include "core/autograd/ops/activation.h"
#include "core/autograd/ops/attention.h"
#include "core/autograd/ops/embedding.h"
#include "core/autograd/ops/head_loss.h"
#include "core/autograd/ops/residual.h"
#include "core/autograd/ops/rotary.h"
#include "core/device/blas.h"
#include "models/layers/layers.h"

namespace muonp::models {

namespace {

namespace ops = core::ops;
using core::ParameterKind;
using core::Tape;
using core::Tensor;
using core::Variable;

constexpr double kStddev = 0.02;

// Dropout within one forward pass: every place in the model that drops has a random stream of its own.
class Dropout {
 public:
  Dropout(const GptConfig& config, const DropoutKey* key, std::int64_t sequence_elements)
      : probability_(key ? config.dropout : 0), sequence_elements_(sequence_elements) {
    if (key) key_ = *key;
  }

  Variable operator()(Tape& tape, const Variable& x) {
    if (probability_ == 0 || !tape.recording()) return x;
    const std::uint64_t stream = kMark | key_.step << 16 | place_++;
    return ops::dropout(tape, x, {probability_, key_.seed, stream, key_.first_row * sequence_elements_});
  }
  // The same from another place on.
  Dropout at(std::uint64_t place) const {
    Dropout other = *this;
    other.place_ = place;
    return other;
  }

 private:
  static constexpr std::uint64_t kMark = 1ull << 63;  // apart from the streams of sample order and initial values
  double probability_;
  DropoutKey key_;
  std::int64_t sequence_elements_;
  std::uint64_t place_ = 0;
};

NormKind norm_kind(const GptConfig& c) { return c.norm == "rms_norm" ? NormKind::rms : NormKind::layer; }

class Block {
 public:
  static constexpr std::uint64_t kDropouts = 2;

  // angles: null without rotary positions.
  Block(ParameterSet& set, const std::string& name, const GptConfig& c, ops::RotaryTable* angles)
      : heads_{c.heads, c.heads, c.head_size()},
        angles_(angles),
        activation_(c.activation),
        attention_norm_(set, name + ".attention_norm", c.width, norm_kind(c), c.bias),
        qkv_(set, name + ".attention.qkv", 3 * c.width, c.width, c.bias, kStddev),
        projection_(set, name + ".attention.projection", c.width, c.width, c.bias, residual_stddev(c)),
        mlp_norm_(set, name + ".mlp_norm", c.width, norm_kind(c), c.bias),
        up_(set, name + (gated(c) ? ".mlp.gate_up" : ".mlp.up"), (gated(c) ? 2 : 1) * c.hidden(), c.width, c.bias, kStddev),
        down_(set, name + ".mlp.down", c.width, c.hidden(), c.bias, residual_stddev(c)) {}

  Variable operator()(Tape& tape, Variable x, Dropout dropout) const {
    x = ops::add(tape, x, dropout(tape, attention(tape, attention_norm_(tape, x))));
    return ops::add(tape, x, dropout(tape, mlp(tape, mlp_norm_(tape, x))));
  }
  void list_reads(core::WeightReads& reads) const {
    attention_norm_.list_reads(reads);
    qkv_.list_reads(reads);
    projection_.list_reads(reads);
    mlp_norm_.list_reads(reads);
    up_.list_reads(reads);
    down_.list_reads(reads);
  }

 private:
  Variable attention(Tape& tape, const Variable& x) const {
    Variable qkv = qkv_(tape, x);
    if (angles_ != nullptr) qkv = ops::rotary(tape, qkv, heads_, *angles_);
    return projection_(tape, ops::attention(tape, qkv, heads_));
  }

  Variable mlp(Tape& tape, const Variable& x) const { return down_(tape, activate(tape, up_(tape, x))); }

  Variable activate(Tape& tape, const Variable& x) const {
    if (activation_ == "swiglu") return ops::swiglu(tape, x);
    return activation_ == "relu2" ? ops::relu_squared(tape, x) : ops::gelu(tape, x);
  }

  static bool gated(const GptConfig& c) { return c.activation == "swiglu"; }
  // 2·layers sub-layers add to the stream; so scaled, its variance at the start does not grow with depth.
  static double residual_stddev(const GptConfig& c) { return kStddev / std::sqrt(2.0 * static_cast<double>(c.layers)); }

  core::AttentionHeads heads_;
  ops::RotaryTable* angles_;
  std::string activation_;
  Norm attention_norm_;
  Linear qkv_, projection_;
  Norm mlp_norm_;
  Linear up_, down_;
};

class Gpt final : public LanguageModel {
 public:
  explicit Gpt(const GptConfig& c) : config_(c) {
    token_embedding_ =
        &set_.add("token_embedding.weight", {c.vocabulary, c.width}, ParameterKind::embedding, normal_init(kStddev));
    if (c.positions == "learned")
      position_embedding_ =
          &set_.add("position_embedding.weight", {c.context, c.width}, ParameterKind::embedding, normal_init(kStddev));
    else
      angles_.emplace(ops::rotary_frequencies(c.head_size()), c.context);
    for (std::int64_t i = 0; i < c.layers; ++i)
      blocks_.emplace_back(set_, fmt::format("blocks.{}", i), c, angles_ ? &*angles_ : nullptr);
    final_norm_.emplace(set_, "final_norm", c.width, norm_kind(c), c.bias);
    head_ = c.tied_head ? token_embedding_
                        : &set_.add("head.weight", {c.vocabulary, c.width}, ParameterKind::head, normal_init(kStddev));
  }

  Variable loss(Tape& tape, const TokenBatch& batch, const DropoutKey& key) override {
    const Variable x = (*final_norm_)(tape, stream(tape, batch.inputs, &key));
    return ops::head_loss(tape, x, *head_, batch.targets, config_.head_chunk_rows);
  }

  Tensor next_token_logits(Tape& tape, const Tensor& inputs) override {
    const Tensor x = stream(tape, inputs, nullptr)->value;
    const std::int64_t batch = x.dim(0), last = x.dim(1) - 1;
    const Tensor ends = tape.activation({batch, config_.width}, x.dtype());
    for (std::int64_t b = 0; b < batch; ++b) ends[b].copy_from(tape.queue(), x[b][last]);
    const Variable y = (*final_norm_)(tape, tape.constant(ends));
    const Tensor logits = tape.activation({batch, config_.vocabulary}, core::Dtype::float32);
    core::gemm(tape.queue(), core::Op::none, core::Op::transpose, 1, core::MatrixView(y->value),
               core::MatrixView(tape.weight(*head_)), 0, core::MatrixView(logits));
    return logits;
  }

  const core::ParameterList& parameters() override { return set_.list(); }
  std::int64_t vocabulary() const override { return config_.vocabulary; }
  std::int64_t context() const override { return config_.context; }

  std::string description() const override {
    return fmt::format("GPT, {} layers, {} wide, {} heads, {:.1f} M parameters", config_.layers, config_.width,
                       config_.heads, static_cast<double>(set_.elements()) * 1e-6);
  }

  core::WeightReads weight_reads() const override {
    core::WeightReads reads;
    reads.operation({token_embedding_, position_embedding_}, {});
    for (const Block& block : blocks_) {
      core::WeightReads of_block;
      block.list_reads(of_block);
      if (recomputes())
        of_block.backward.insert(of_block.backward.begin(), of_block.forward.begin(), of_block.forward.end());
      reads.append(of_block);
    }
    final_norm_->list_reads(reads);
    reads.operation({head_}, {head_});
    return reads;
  }

  double step_flops(std::int64_t batch, std::int64_t time) const override { return gpt_step_flops(config_, batch, time); }
  double skipped_flops(std::int64_t batch, std::int64_t time) const override {
    return gpt_skipped_flops(config_, batch, time);
  }
  double recomputed_flops(std::int64_t batch, std::int64_t time) const override {
    return gpt_recomputed_flops(config_, batch, time);
  }
  std::int64_t activation_bytes(std::int64_t batch, std::int64_t time, core::Dtype dtype,
                                core::DeviceKind device) const override {
    return gpt_activation_bytes(config_, batch, time, dtype, device);
  }

 private:
  // The residual stream after the last block; `key` null: no dropout.
  Variable stream(Tape& tape, const Tensor& inputs, const DropoutKey* key) const {
    MUONP_ASSERT(inputs.rank() == 2, "inputs {}", core::to_string(inputs.shape()));
    if (inputs.dim(1) > config_.context)
      core::fail("a sequence of {} tokens is longer than the model's context of {}", inputs.dim(1), config_.context);
    Dropout dropout(config_, key, inputs.dim(1) * config_.width);
    Variable x = dropout(tape, ops::embedding(tape, inputs, *token_embedding_, position_embedding_));
    for (std::uint64_t i = 0; i < blocks_.size(); ++i) {
      const auto run = [&block = blocks_[i], at = dropout.at(1 + i * Block::kDropouts)](Tape& t, const Variable& in) {
        return block(t, in, at);
      };
      x = recomputes() ? tape.checkpoint(x, run) : run(tape, x);
    }
    return x;
  }
  bool recomputes() const { return config_.recompute == "blocks"; }

  GptConfig config_;
  ParameterSet set_;
  core::Parameter* token_embedding_;
  core::Parameter* position_embedding_ = nullptr;
  std::optional<ops::RotaryTable> angles_;  // of rotary positions
  std::vector<Block> blocks_;
  std::optional<Norm> final_norm_;
  core::Parameter* head_;
};

}  // namespace

std::unique_ptr<LanguageModel> make_gpt(const GptConfig& config) {
  const GptConfig c = config.resolved();
  if (c.vocabulary == 0) core::fail("model.vocabulary is not given, and neither the preset nor a tokenizer sets it");
  return std::make_unique<Gpt>(c);
}

}  // namespace muonp::models
