#include "models/layers/decoder.h"

#include <algorithm>
#include <vector>

#include "core/autograd/ops/attention.h"
#include "core/autograd/ops/common.h"
#include "core/autograd/ops/head_loss.h"
#include "core/autograd/ops/rotary.h"
#include "core/device/attention.h"
#include "core/device/blas.h"

namespace muonp::models {

namespace ops = core::ops;
using core::Tape;
using core::Tensor;
using core::Variable;

std::int64_t Pass::longest(std::int64_t time) const {
  return time + (cache == nullptr || cache->lengths.empty() ? 0 : std::ranges::max(cache->lengths));
}

Tensor Pass::places(const Tensor& tokens) const {
  if (!begins && cache == nullptr) return {};
  const Tensor places = Tensor::on_host(tokens.shape(), core::Dtype::int32);
  std::int32_t* to = places.data<std::int32_t>();
  const std::int64_t time = tokens.dim(1);
  for (std::int64_t i = 0; i < tokens.size(); ++i) {
    const std::int64_t first = cache != nullptr ? -cache->lengths[core::at(i / time)] : begins.data<std::int32_t>()[i];
    to[i] = static_cast<std::int32_t>(i % time - first);
  }
  return places;
}

void Decoder::add_end(const std::string& norm, NormKind kind, bool bias, float epsilon, const std::string& head,
                      double stddev, core::Parameter* tied) {
  final_norm_.emplace(set_, norm, shape_.width, kind, bias, epsilon);
  head_ = tied != nullptr ? tied
                          : &set_.add(head + ".weight", {shape_.vocabulary, shape_.width}, core::ParameterKind::head,
                                      normal_init(stddev));
  set_.require_modules();
}

std::string Decoder::count_text() const {
  const auto millions = [](std::int64_t elements) { return static_cast<double>(elements) * 1e-6; };
  if (!set_.lora().on()) return fmt::format("{:.1f} M parameters", millions(set_.elements()));
  std::int64_t trained = 0;
  for (const core::Parameter* p : core::trained_of(set_.list())) trained += p->size();
  return fmt::format("{:.1f} M parameters, of which LoRA of rank {} trains {:.2f} M", millions(set_.elements()),
                     set_.lora().rank, millions(trained));
}

double Decoder::lora_flops(std::int64_t batch, std::int64_t time) const {
  if (!set_.lora().on()) return 0;
  std::int64_t a_token = -2 * head_->size();
  for (const core::Parameter* p : set_.list()) {
    if (p->trained) a_token += 6 * p->size();
    if (!p->trained && p->kind == core::ParameterKind::matrix) a_token -= 2 * p->size();
  }
  return static_cast<double>(a_token) * static_cast<double>(batch * time);
}

std::int64_t Decoder::lora_bytes(std::int64_t batch, std::int64_t time, core::Dtype dtype) const {
  std::int64_t most = 0;
  for (const core::Parameter* p : set_.list())
    if (p->kind == core::ParameterKind::lora_a)
      most = std::max(most, p->shape[0] + (set_.lora().dropout > 0 ? 2 * p->shape[1] : 0));
  return batch * time * most * core::size_of(dtype);
}

std::vector<core::WeightReads> Decoder::reads_by_part() const {
  std::vector<core::WeightReads> parts(1);
  parts.front().operation(embeddings(), {});
  for (const BlockReads& block : block_reads()) {
    const auto of_block = {&block.into_attention, &block.out_of_attention, &block.into_mlp, &block.out_of_mlp};
    core::WeightReads::List again;
    for (const core::WeightReads* part : of_block) {
      parts.push_back(*part);
      again.insert(again.end(), part->forward.begin(), part->forward.end());
    }
    if (recomputes()) parts.back().backward.insert(parts.back().backward.begin(), again.begin(), again.end());
  }
  core::WeightReads end;
  final_norm_->list_reads(end);
  end.operation({head_}, {head_});
  parts.push_back(std::move(end));
  return parts;
}

core::WeightReads Decoder::weight_reads() const {
  core::WeightReads reads;
  for (const core::WeightReads& part : reads_by_part()) reads.append(part);
  return reads;
}

std::vector<core::PassStretch> Decoder::stretches(const PassShape& shape) const {
  const DecoderPeaks most = peaks(shape);
  const std::vector<core::WeightReads> parts = reads_by_part();
  const auto at_most = [&, last = std::ssize(parts) - 1](std::int64_t i) {
    if (i == 0) return most.at_embedding();
    if (i == last) return most.at_head();
    return most.in_block((i - 1) / DecoderPeaks::kParts, static_cast<int>((i - 1) % DecoderPeaks::kParts));
  };
  std::vector<core::PassStretch> stretches;
  for (const core::WeightReads& part : parts)
    stretches.push_back({std::ssize(part.forward), std::ssize(part.backward), at_most(std::ssize(stretches))});
  return stretches;
}

Residual Decoder::checked_stream(Tape& tape, const Tensor& inputs, const Pass& pass) const {
  MUONP_ASSERT(inputs.rank() == 2, "inputs {}", core::to_string(inputs.shape()));
  if (const std::int64_t longest = pass.longest(inputs.dim(1)); longest > shape_.context)
    core::fail("a sequence of {} tokens is longer than the model's context of {}", longest, shape_.context);
  return stream(tape, inputs, pass);
}

Variable Decoder::read(Tape& tape, const TokenBatch& batch, const std::optional<DropoutKey>& dropout) {
  Pass pass;
  if (clip_ && tape.recording()) pass.largest_logits = clip_->raised(tape.device());
  pass.dropout = dropout;
  if (batch.begins) {
    MUONP_ASSERT(batch.begins.shape() == batch.inputs.shape(), "begins {} of inputs {}",
                 core::to_string(batch.begins.shape()), core::to_string(batch.inputs.shape()));
    pass.begins = batch.begins;
    pass.begins_on_device = ops::on_device(tape, batch.begins);
  }
  return (*final_norm_)(tape, checked_stream(tape, batch.inputs, pass)).norm;
}

Variable Decoder::loss(Tape& tape, const TokenBatch& batch, const DropoutKey& key) {
  return ops::head_loss(tape, read(tape, batch, key), *head_, batch.targets, shape_.head_chunk_rows,
                        tape.recording() ? shape_.logits : core::Dtype::float32);
}

Tensor Decoder::token_losses(Tape& tape, const TokenBatch& batch) {
  MUONP_ASSERT(!tape.recording(), "losses of tokens on a tape that records");
  const Tensor losses = ops::head_losses(tape, read(tape, batch, {})->value, *head_, batch.targets, shape_.head_chunk_rows);
  return losses.view(batch.targets.shape());
}

Tensor Decoder::logits_of(Tape& tape, const Tensor& rows) const {
  const Variable x = (*final_norm_)(tape, tape.constant(rows));
  core::Shape shape = rows.shape();
  shape.back() = shape_.vocabulary;
  const Tensor logits = tape.activation(std::move(shape), core::Dtype::float32);
  core::gemm(tape.queue(), core::Op::none, core::Op::transpose, 1, core::MatrixView(x->value),
             core::MatrixView(tape.weight(*head_)), 0, core::MatrixView(logits));
  return logits;
}

Tensor Decoder::logits(Tape& tape, const Tensor& inputs) {
  return logits_of(tape, sum_of(tape, checked_stream(tape, inputs, {}))->value);
}

namespace {

// Row times[b] of each sequence of x [batch, time, width]: [batch, width].
Tensor rows_at(Tape& tape, const Tensor& x, std::span<const std::int64_t> times) {
  const Tensor rows = tape.activation({x.dim(0), x.dim(2)}, x.dtype());
  for (std::int64_t b = 0; b < x.dim(0); ++b) rows[b].copy_from(tape.queue(), x[b][times[core::at(b)]]);
  return rows;
}

}  // namespace

Tensor Decoder::next_token_logits(Tape& tape, const Tensor& inputs) {
  const Tensor x = sum_of(tape, checked_stream(tape, inputs, {}))->value;
  return logits_of(tape, rows_at(tape, x, std::vector<std::int64_t>(core::at(x.dim(0)), x.dim(1) - 1)));
}

KeyValueCache Decoder::make_cache(core::Device& device, std::int64_t batch, std::int64_t capacity, core::Dtype dtype) const {
  MUONP_ASSERT(batch > 0 && capacity > 0 && capacity <= shape_.context, "a cache of {} sequences of {} positions", batch,
               capacity);
  KeyValueCache cache{{}, capacity, std::vector<std::int64_t>(core::at(batch), 0)};
  const auto make = [&] {
    return Tensor::empty(device, {batch, capacity, shape_.heads.key_width()}, dtype, core::Category::activations);
  };
  for (std::int64_t i = 0; i < shape_.layers; ++i) cache.layers.push_back({make(), make()});
  return cache;
}

Tensor Decoder::next_logits(Tape& tape, const Tensor& inputs, std::span<const std::int64_t> counts, KeyValueCache& cache) {
  MUONP_ASSERT(!tape.recording(), "a cache on a tape that records");
  MUONP_ASSERT(inputs.dim(0) == cache.batch() && std::ssize(counts) == cache.batch(),
               "{} sequences, {} counts, a cache of {}", inputs.dim(0), counts.size(), cache.batch());
  for (const std::int64_t count : counts)
    MUONP_ASSERT(count >= 0 && count <= inputs.dim(1), "{} of {} new tokens", count, inputs.dim(1));
  Pass pass;
  pass.cache = &cache;
  const Tensor x = sum_of(tape, checked_stream(tape, inputs, pass))->value;
  std::vector<std::int64_t> last;
  for (std::int64_t b = 0; b < cache.batch(); ++b) {
    last.push_back(std::max<std::int64_t>(0, counts[core::at(b)] - 1));
    cache.lengths[core::at(b)] += counts[core::at(b)];
  }
  return logits_of(tape, rows_at(tape, x, last));
}

Variable attend(Tape& tape, const Variable& qkv, const core::AttentionHeads& heads, const Pass& pass, std::int64_t layer) {
  if (pass.cache == nullptr)
    return ops::attention(tape, qkv, heads, pass.begins_on_device,
                          pass.largest_logits ? pass.largest_logits[layer] : Tensor());
  const Tensor& in = qkv->value;
  const Tensor out = tape.activation({in.dim(0), in.dim(1), heads.query_width()}, in.dtype());
  const KeyValueCache::Layer& cached = pass.cache->layers[core::at(layer)];
  core::attention_with_cache(tape.device(), heads, in, cached.keys, cached.values, pass.cache->lengths, out);
  return tape.constant(out);
}

Variable turn(Tape& tape, const Variable& qkv, const core::AttentionHeads& heads, ops::RotaryTable& angles,
              const Pass& pass) {
  if (pass.cache == nullptr) return ops::rotary(tape, qkv, heads, angles, pass.begins_on_device);
  return ops::rotary_at(tape, qkv, heads, angles, pass.cache->lengths);
}

}  // namespace muonp::models
