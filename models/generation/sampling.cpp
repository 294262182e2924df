#include "models/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/rng.h"
#include "core/device/host_view.h"

namespace muonp::models {

namespace {

void check(std::span<const float> logits, const SamplingOptions& o) {
  if (!(o.temperature >= 0) || std::isinf(o.temperature))
    core::fail("temperature {} is not valid; it is at least 0", o.temperature);
  if (o.top_k < 0) core::fail("top_k {} is not valid; it is at least 1, or 0 for all tokens", o.top_k);
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (!std::isfinite(logits[i]))
      core::fail("the model's logit of token {} is {}", i, std::isnan(logits[i]) ? NAN : logits[i]);
  MUONP_ASSERT(!logits.empty(), "no logits");
}

// The k ids with the highest logits, best first.
std::vector<std::int32_t> best(std::span<const float> logits, std::size_t k) {
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto better = [&](std::int32_t a, std::int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(k), ids.end(), better);
  ids.resize(k);
  return ids;
}

}  // namespace

std::int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, std::uint64_t index) {
  check(logits, options);
  if (options.temperature == 0) return best(logits, 1)[0];
  const std::size_t k = options.top_k == 0 ? logits.size() : std::min(logits.size(), std::size_t(options.top_k));
  const std::vector<std::int32_t> ids = best(logits, k);
  std::vector<double> cumulative(k);
  double total = 0;
  for (std::size_t i = 0; i < k; ++i)
    cumulative[i] = total += std::exp((double(logits[ids[i]]) - logits[ids[0]]) / options.temperature);
  constexpr std::uint64_t kStream = (1ull << 63) | (1ull << 62);  // apart from those of dropout and sample order
  const double target = total * core::uniform(options.seed, kStream, index);
  const auto at = std::upper_bound(cumulative.begin(), cumulative.end(), target);
  return ids[std::min(k - 1, static_cast<std::size_t>(at - cumulative.begin()))];
}

std::vector<std::int32_t> generate(core::Device& device, LanguageModel& model, std::span<const std::int32_t> prompt,
                                   std::int64_t count, const SamplingOptions& options,
                                   const std::function<bool(std::int32_t)>& on_token) {
  if (prompt.empty()) core::fail("a text cannot be continued from nothing: the prompt has no tokens");
  MUONP_ASSERT(count >= 0, "{} tokens", count);
  std::vector<std::int32_t> text(prompt.begin(), prompt.end());
  for (std::int64_t i = 0; i < count; ++i) {
    const auto length = std::min(std::ssize(text), model.context());
    std::int32_t* window = text.data() + text.size() - static_cast<std::size_t>(length);
    core::Tape tape(device, false);
    const core::Tensor logits = model.next_token_logits(tape, core::Tensor::borrow(window, {1, length}, core::Dtype::int32));
    text.push_back(
        sample_token(core::HostView(device.queue(), logits, core::Access::read).span<float>(), options, text.size()));
    if (on_token && !on_token(text.back())) break;
  }
  return {text.begin() + static_cast<std::ptrdiff_t>(prompt.size()), text.end()};
}

}  // namespace muonp::models
