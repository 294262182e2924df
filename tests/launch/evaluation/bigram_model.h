// A language model whose every answer can be computed by hand: what follows a token depends on that token alone.
#pragma once

#include <cmath>
#include <functional>

#include "core/autograd/ops/common.h"
#include "core/device/host_view.h"
#include "models/model.h"

namespace muonp::test {

class BigramModel final : public models::LanguageModel {
 public:
  // logit(token, next)
  using Logit = std::function<float(std::int32_t, std::int32_t)>;
  BigramModel(std::int64_t vocabulary, std::int64_t context, Logit logit)
      : vocabulary_(vocabulary), context_(context), logit_(std::move(logit)) {}

  double loss_of(std::int32_t token, std::int32_t next) const {
    double sum = 0;
    for (std::int32_t v = 0; v < vocabulary_; ++v) sum += std::exp(double{logit_(token, v)});
    return std::log(sum) - double{logit_(token, next)};
  }
  std::int32_t likeliest_after(std::int32_t token) const {
    std::int32_t best = 0;
    for (std::int32_t v = 1; v < vocabulary_; ++v)
      if (logit_(token, v) > logit_(token, best)) best = v;
    return best;
  }
  mutable std::int64_t passes = 0;

  const core::ParameterList& parameters() override { return none_; }
  std::string description() const override { return "bigrams"; }
  std::int64_t vocabulary() const override { return vocabulary_; }
  std::int64_t context() const override { return context_; }
  core::WeightReads weight_reads() const override { return {}; }
  core::Variable loss(core::Tape&, const models::TokenBatch&, const models::DropoutKey&) override {
    MUONP_ASSERT(false, "not for training");
  }
  core::Tensor token_losses(core::Tape& tape, const models::TokenBatch& batch) override {
    ++passes;
    const core::Tensor losses = core::Tensor::on_host(batch.inputs.shape(), core::Dtype::float32);
    for (std::int64_t i = 0; i < batch.inputs.size(); ++i) {
      const std::int32_t target = batch.targets.data<std::int32_t>()[i];
      losses.data<float>()[i] =
          target < 0 ? 0.0f : static_cast<float>(loss_of(batch.inputs.data<std::int32_t>()[i], target));
    }
    return core::ops::on_device(tape, losses);
  }
  core::Tensor next_token_logits(core::Tape& tape, const core::Tensor& inputs) override {
    ++passes;
    std::vector<std::int32_t> last;
    for (std::int64_t b = 0; b < inputs.dim(0); ++b) last.push_back(inputs[b].data<std::int32_t>()[inputs.dim(1) - 1]);
    return rows(tape, last);
  }
  core::Tensor logits(core::Tape& tape, const core::Tensor& inputs) override {
    ++passes;
    const std::span<const std::int32_t> ids = inputs.span<std::int32_t>();
    return rows(tape, {ids.begin(), ids.end()}).view({inputs.dim(0), inputs.dim(1), vocabulary_});
  }
  models::KeyValueCache make_cache(core::Device&, std::int64_t batch, std::int64_t capacity, core::Dtype) const override {
    return {{}, capacity, std::vector<std::int64_t>(static_cast<std::size_t>(batch), 0)};
  }
  core::Tensor next_logits(core::Tape& tape, const core::Tensor& inputs, std::span<const std::int64_t> counts,
                           models::KeyValueCache& cache) override {
    ++passes;
    std::vector<std::int32_t> last;
    for (std::int64_t b = 0; b < inputs.dim(0); ++b) {
      const std::int64_t count = counts[static_cast<std::size_t>(b)];
      cache.lengths[static_cast<std::size_t>(b)] += count;
      last.push_back(count > 0 ? inputs[b].data<std::int32_t>()[count - 1] : 0);
    }
    return rows(tape, last);
  }
  double step_flops(std::int64_t, std::int64_t) const override { return 0; }
  double skipped_flops(std::int64_t, std::int64_t) const override { return 0; }
  double recomputed_flops(std::int64_t, std::int64_t) const override { return 0; }
  std::vector<core::PassStretch> stretches(const models::PassShape&) const override { return {}; }

 private:
  core::Tensor rows(core::Tape& tape, const std::vector<std::int32_t>& tokens) const {
    const core::Tensor all = core::Tensor::on_host({std::ssize(tokens), vocabulary_}, core::Dtype::float32);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      for (std::int32_t v = 0; v < vocabulary_; ++v)
        all.data<float>()[static_cast<std::int64_t>(i) * vocabulary_ + v] = logit_(tokens[i], v);
    return core::ops::on_device(tape, all);
  }

  std::int64_t vocabulary_, context_;
  Logit logit_;
  core::ParameterList none_;
};

}  // namespace muonp::test
