#include "models/llama/llama.h"

#include <cmath>
#include <optional>
#include <vector>

#include "core/autograd/ops/activation.h"
#include "core/autograd/ops/embedding.h"
#include "core/autograd/ops/head_norm.h"
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
// 2·layers sub-layers add to the stream; so scaled, its variance at the start does not grow with depth.
double residual_stddev(const LlamaConfig& c) { return kStddev / std::sqrt(2.0 * static_cast<double>(c.layers)); }

core::AttentionHeads heads_of(const LlamaConfig& c) {
  return {.queries = c.heads, .keys = c.kv_heads, .size = c.head_size, .window = c.window};
}
Norm rms(ParameterSet& set, const std::string& name, const LlamaConfig& c) {
  return {set, name, c.width, NormKind::rms, false, static_cast<float>(c.norm_epsilon)};
}

// The angles of all positions. Those of `dynamic` depend on how long a sequence is: one table for sequences within the
// original context, and one for the last longer length that was asked for.
class Angles {
 public:
  explicit Angles(const LlamaConfig& c)
      : config_(c),
        short_(c.rope.kind == "dynamic" && c.rope.original_context > 0 ? std::min(c.context, c.rope.original_context)
                                                                       : c.context) {}

  ops::RotaryTable& of(std::int64_t time) {
    if (time <= short_) return table(within_, short_);
    if (beyond_ && beyond_->longest() != time) beyond_.reset();
    return table(beyond_, time);
  }

 private:
  ops::RotaryTable& table(std::optional<ops::RotaryTable>& kept, std::int64_t time) const {
    if (!kept) {
      RopeFrequencies f = rope_frequencies(config_.rope, config_.head_size, config_.context, time);
      kept.emplace(std::move(f.frequencies), time, f.scale);
    }
    return *kept;
  }

  LlamaConfig config_;
  std::int64_t short_;
  std::optional<ops::RotaryTable> within_, beyond_;
};

class Attention {
 public:
  Attention(ParameterSet& set, const std::string& name, const LlamaConfig& c, std::int64_t layer, Angles& angles)
      : heads_(heads_of(c)),
        layer_(layer),
        epsilon_(static_cast<float>(c.norm_epsilon)),
        angles_(&angles),
        qkv_(set,
             {{name + ".q_proj", heads_.query_width()},
              {name + ".k_proj", heads_.key_width()},
              {name + ".v_proj", heads_.key_width()}},
             c.width, c.qkv_bias, kStddev) {
    if (c.qk_norm) {
      query_norm_ = &set.add(name + ".q_norm.weight", {c.head_size}, ParameterKind::vector, ones_init());
      key_norm_ = &set.add(name + ".k_norm.weight", {c.head_size}, ParameterKind::vector, ones_init());
    }
    out_.emplace(set, name + ".o_proj", c.width, heads_.query_width(), false, residual_stddev(c));
  }

  Variable operator()(Tape& tape, const Variable& x, const Pass& pass) const {
    Variable qkv = qkv_(tape, x, pass.dropout);
    if (query_norm_ != nullptr) qkv = ops::head_norm(tape, qkv, heads_, *query_norm_, *key_norm_, epsilon_);
    qkv = turn(tape, qkv, heads_, angles_->of(pass.longest(x->value.dim(1))), pass);
    return (*out_)(tape, attend(tape, qkv, heads_, pass, layer_), pass.dropout);
  }
  const ParallelLinears& qkv() const { return qkv_; }
  void list_reads(core::WeightReads& into, core::WeightReads& out) const {
    qkv_.list_reads(into);
    out.operation({query_norm_, key_norm_}, {query_norm_, key_norm_});
    out_->list_reads(out);
  }

 private:
  core::AttentionHeads heads_;
  std::int64_t layer_;
  float epsilon_;
  Angles* angles_;
  ParallelLinears qkv_;
  core::Parameter *query_norm_ = nullptr, *key_norm_ = nullptr;
  std::optional<Linear> out_;
};

// down(silu(gate(x)) · up(x))
class Mlp {
 public:
  Mlp(ParameterSet& set, const std::string& name, const LlamaConfig& c)
      : gate_up_(set, {{name + ".gate_proj", c.hidden}, {name + ".up_proj", c.hidden}}, c.width, false, kStddev),
        down_(set, name + ".down_proj", c.width, c.hidden, false, residual_stddev(c)) {}

  Variable operator()(Tape& tape, const Variable& x, const Pass& pass) const {
    return down_(tape, ops::swiglu(tape, gate_up_(tape, x, pass.dropout)), pass.dropout);
  }
  void list_reads(core::WeightReads& into, core::WeightReads& out) const {
    gate_up_.list_reads(into);
    down_.list_reads(out);
  }

 private:
  ParallelLinears gate_up_;
  Linear down_;
};

class Block {
 public:
  Block(ParameterSet& set, const std::string& name, const LlamaConfig& c, std::int64_t layer, Angles& angles)
      : input_norm_(rms(set, name + ".input_layernorm", c)),
        attention_(set, name + ".self_attn", c, layer, angles),
        attention_norm_(rms(set, name + ".post_attention_layernorm", c)),
        mlp_(set, name + ".mlp", c) {}

  Residual operator()(Tape& tape, Residual in, const Pass& pass) const {
    const auto [x, to_attention] = input_norm_(tape, std::move(in));
    const auto [y, to_mlp] = attention_norm_(tape, {x, attention_(tape, to_attention, pass)});
    return {y, mlp_(tape, to_mlp, pass)};
  }
  const ParallelLinears& qkv() const { return attention_.qkv(); }
  BlockReads reads() const {
    BlockReads reads;
    input_norm_.list_reads(reads.into_attention);
    attention_.list_reads(reads.into_attention, reads.out_of_attention);
    attention_norm_.list_reads(reads.into_mlp);
    mlp_.list_reads(reads.into_mlp, reads.out_of_mlp);
    return reads;
  }

 private:
  Norm input_norm_;
  Attention attention_;
  Norm attention_norm_;
  Mlp mlp_;
};

class Llama final : public Decoder {
 public:
  Llama(const LlamaConfig& c, const LoraConfig& lora, const QkClipConfig& clip)
      : Decoder(
            {c.layers, c.width, c.context, c.vocabulary, heads_of(c), c.head_chunk_rows, core::parse_dtype(c.logits_dtype)},
            lora, clip),
        config_(c),
        angles_(c) {
    embedding_ =
        &set_.add("model.embed_tokens.weight", {c.vocabulary, c.width}, ParameterKind::embedding, normal_init(kStddev));
    for (std::int64_t i = 0; i < c.layers; ++i) {
      const ParallelLinears& qkv = blocks_.emplace_back(set_, fmt::format("model.layers.{}", i), c, i, angles_).qkv();
      add_logits({qkv.part(0), 0}, {qkv.part(1), 0});
    }
    add_end("model.norm", NormKind::rms, false, static_cast<float>(c.norm_epsilon), "lm_head", kStddev,
            c.tied_head ? embedding_ : nullptr);
  }

  std::string description() const override {
    return fmt::format("Llama, {} layers, {} wide, {} heads on {} of keys, {}", config_.layers, config_.width, config_.heads,
                       config_.kv_heads, count_text());
  }
  double step_flops(std::int64_t batch, std::int64_t time) const override {
    return llama_step_flops(config_, batch, time) + lora_flops(batch, time);
  }
  double skipped_flops(std::int64_t batch, std::int64_t time) const override {
    return llama_skipped_flops(config_, batch, time);
  }
  double recomputed_flops(std::int64_t batch, std::int64_t time) const override {
    return llama_recomputed_flops(config_, batch, time);
  }

 private:
  Residual stream(Tape& tape, const Tensor& tokens, const Pass& pass) const override {
    Residual x = {ops::embedding(tape, tokens, *embedding_, nullptr)};
    for (const Block& block : blocks_)
      x = run_block(tape, std::move(x), recomputes(),
                    [&block, pass](Tape& t, Residual in) { return block(t, std::move(in), pass); });
    return x;
  }
  std::vector<core::Parameter*> embeddings() const override { return {embedding_}; }
  std::vector<BlockReads> block_reads() const override {
    std::vector<BlockReads> reads;
    for (const Block& block : blocks_) reads.push_back(block.reads());
    return reads;
  }
  bool recomputes() const override { return config_.recompute == "blocks"; }
  DecoderPeaks peaks(const PassShape& shape) const override {
    return llama_peaks(config_, shape, lora_bytes(shape.batch, shape.time, shape.dtype), clips());
  }

  LlamaConfig config_;
  Angles angles_;
  core::Parameter* embedding_;
  std::vector<Block> blocks_;
};

}  // namespace

std::unique_ptr<LanguageModel> make_llama(const LlamaConfig& config, const LoraConfig& lora, const QkClipConfig& clip) {
  const LlamaConfig c = config.resolved();
  if (c.vocabulary == 0) core::fail("model.vocabulary is not given, and neither the preset nor a tokenizer sets it");
  return std::make_unique<Llama>(c, lora, clip);
}

}  // namespace muonp::models
