#include "models/gpt/gpt.h"

#include <cmath>
#include <optional>
#include <vector>

#include "core/autograd/ops/activation.h"
#include "core/autograd/ops/embedding.h"
#include "core/autograd/ops/residual.h"
#include "core/autograd/ops/rotary.h"
#include "models/layers/decoder.h"

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
  Dropout(const GptConfig& config, const std::optional<DropoutKey>& key, std::int64_t sequence_elements)
      : probability_(key ? config.dropout : 0), key_(key.value_or(DropoutKey{})), sequence_elements_(sequence_elements) {}

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

core::AttentionHeads heads_of(const GptConfig& c) { return {c.heads, c.heads, c.head_size()}; }

// What parameters are called.
struct Names {
  std::string token_embedding, position_embedding, block;
  std::string attention_norm, qkv, projection, mlp_norm, up, gate_up, down;  // behind a block's number
  std::string final_norm, head;
};
const Names& names_of(const GptConfig& c) {
  static const Names own = {"token_embedding", "position_embedding",
                            "blocks",          ".attention_norm",
                            ".attention.qkv",  ".attention.projection",
                            ".mlp_norm",       ".mlp.up",
                            ".mlp.gate_up",    ".mlp.down",
                            "final_norm",      "head"};
  static const Names gpt2 = {"transformer.wte",  "transformer.wpe", "transformer.h", ".ln_1", ".attn.c_attn",
                             ".attn.c_proj",     ".ln_2",           ".mlp.c_fc",     "",      ".mlp.c_proj",
                             "transformer.ln_f", "lm_head"};
  return c.gpt2 ? gpt2 : own;
}

class Block {
 public:
  static constexpr std::uint64_t kDropouts = 2;

  // angles: null without rotary positions.
  Block(ParameterSet& set, const GptConfig& c, std::int64_t layer, ops::RotaryTable* angles)
      : Block(set, c, layer, angles, names_of(c), fmt::format("{}.{}", names_of(c).block, layer)) {}

  Residual operator()(Tape& tape, Residual in, const Pass& pass, Dropout dropout) const {
    const auto [x, to_attention] = attention_norm_(tape, std::move(in));
    const auto [y, to_mlp] = mlp_norm_(tape, {x, dropout(tape, attention(tape, to_attention, pass))});
    return {y, dropout(tape, mlp(tape, to_mlp, pass))};
  }
  const core::ops::LinearPart& qkv() const { return qkv_.part(); }
  BlockReads reads() const {
    BlockReads reads;
    attention_norm_.list_reads(reads.into_attention);
    qkv_.list_reads(reads.into_attention);
    projection_.list_reads(reads.out_of_attention);
    mlp_norm_.list_reads(reads.into_mlp);
    up_.list_reads(reads.into_mlp);
    down_.list_reads(reads.out_of_mlp);
    return reads;
  }

 private:
  Block(ParameterSet& set, const GptConfig& c, std::int64_t layer, ops::RotaryTable* angles, const Names& names,
        const std::string& name)
      : heads_(heads_of(c)),
        layer_(layer),
        angles_(angles),
        activation_(c.activation),
        attention_norm_(set, name + names.attention_norm, c.width, norm_kind(c), c.bias),
        qkv_(set, name + names.qkv, 3 * c.width, c.width, c.bias, kStddev),
        projection_(set, name + names.projection, c.width, c.width, c.bias, residual_stddev(c)),
        mlp_norm_(set, name + names.mlp_norm, c.width, norm_kind(c), c.bias),
        up_(set, name + (gated(c) ? names.gate_up : names.up), (gated(c) ? 2 : 1) * c.hidden(), c.width, c.bias, kStddev),
        down_(set, name + names.down, c.width, c.hidden(), c.bias, residual_stddev(c)) {}

  Variable attention(Tape& tape, const Variable& x, const Pass& pass) const {
    Variable qkv = qkv_(tape, x, pass.dropout);
    if (angles_ != nullptr) qkv = turn(tape, qkv, heads_, *angles_, pass);
    return projection_(tape, attend(tape, qkv, heads_, pass, layer_), pass.dropout);
  }

  Variable mlp(Tape& tape, const Variable& x, const Pass& pass) const {
    if (activation_ == "gelu") return down_(tape, up_.gelu(tape, x, pass.dropout), pass.dropout);
    const Variable up = up_(tape, x, pass.dropout);
    return down_(tape, activation_ == "swiglu" ? ops::swiglu(tape, up) : ops::relu_squared(tape, up), pass.dropout);
  }

  static bool gated(const GptConfig& c) { return c.activation == "swiglu"; }
  // 2·layers sub-layers add to the stream; so scaled, its variance at the start does not grow with depth.
  static double residual_stddev(const GptConfig& c) { return kStddev / std::sqrt(2.0 * static_cast<double>(c.layers)); }

  core::AttentionHeads heads_;
  std::int64_t layer_;
  ops::RotaryTable* angles_;
  std::string activation_;
  Norm attention_norm_;
  Linear qkv_, projection_;
  Norm mlp_norm_;
  Linear up_, down_;
};

class Gpt final : public Decoder {
 public:
  Gpt(const GptConfig& c, const LoraConfig& lora, const QkClipConfig& clip)
      : Decoder(
            {c.layers, c.width, c.context, c.vocabulary, heads_of(c), c.head_chunk_rows, core::parse_dtype(c.logits_dtype)},
            lora, clip),
        config_(c) {
    const Names& names = names_of(c);
    token_embedding_ = &add_embedding(names.token_embedding, c.vocabulary);
    if (c.positions == "learned")
      position_embedding_ = &add_embedding(names.position_embedding, c.context);
    else
      angles_.emplace(ops::rotary_frequencies(c.head_size()), c.context);
    for (std::int64_t i = 0; i < c.layers; ++i) {
      const core::ops::LinearPart& qkv = blocks_.emplace_back(set_, c, i, angles_ ? &*angles_ : nullptr).qkv();
      add_logits({qkv, 0}, {qkv, c.width});
    }
    add_end(names.final_norm, norm_kind(c), c.bias, ops::kNormEpsilon, names.head, kStddev,
            c.tied_head ? token_embedding_ : nullptr);
  }

  std::string description() const override {
    return fmt::format("{}, {} layers, {} wide, {} heads, {}", config_.gpt2 ? "GPT-2" : "GPT", config_.layers, config_.width,
                       config_.heads, count_text());
  }
  double step_flops(std::int64_t batch, std::int64_t time) const override {
    return gpt_step_flops(config_, batch, time) + lora_flops(batch, time);
  }
  double skipped_flops(std::int64_t batch, std::int64_t time) const override {
    return gpt_skipped_flops(config_, batch, time);
  }
  double recomputed_flops(std::int64_t batch, std::int64_t time) const override {
    return gpt_recomputed_flops(config_, batch, time);
  }

 private:
  core::Parameter& add_embedding(const std::string& name, std::int64_t rows) {
    return set_.add(name + ".weight", {rows, config_.width}, ParameterKind::embedding, normal_init(kStddev));
  }

  Residual stream(Tape& tape, const Tensor& inputs, const Pass& pass) const override {
    Dropout dropout(config_, pass.dropout, inputs.dim(1) * config_.width);
    Residual x = {dropout(tape, ops::embedding(tape, inputs, *token_embedding_, position_embedding_, pass.places(inputs)))};
    for (std::uint64_t i = 0; i < blocks_.size(); ++i) {
      const auto run = [&block = blocks_[i], pass, at = dropout.at(1 + i * Block::kDropouts)](Tape& t, Residual in) {
        return block(t, std::move(in), pass, at);
      };
      x = run_block(tape, std::move(x), recomputes(), run);
    }
    return x;
  }

  std::vector<core::Parameter*> embeddings() const override { return {token_embedding_, position_embedding_}; }
  std::vector<BlockReads> block_reads() const override {
    std::vector<BlockReads> reads;
    for (const Block& block : blocks_) reads.push_back(block.reads());
    return reads;
  }
  bool recomputes() const override { return config_.recompute == "blocks"; }
  DecoderPeaks peaks(const PassShape& shape) const override {
    return gpt_peaks(config_, shape, lora_bytes(shape.batch, shape.time, shape.dtype), clips());
  }

  GptConfig config_;
  core::Parameter* token_embedding_;
  core::Parameter* position_embedding_ = nullptr;
  std::optional<ops::RotaryTable> angles_;  // of rotary positions
  std::vector<Block> blocks_;
};

}  // namespace

std::unique_ptr<LanguageModel> make_gpt(const GptConfig& config, const LoraConfig& lora, const QkClipConfig& clip) {
  const GptConfig c = config.resolved();
  if (c.vocabulary == 0) core::fail("model.vocabulary is not given, and neither the preset nor a tokenizer sets it");
  return std::make_unique<Gpt>(c, lora, clip);
}

}  // namespace muonp::models
