#include "models/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/rng.h"

namespace muonp::models {

namespace {

void check_logits(std::span<const float> logits) {
  MUONP_ASSERT(!logits.empty(), "no logits");
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (!std::isfinite(logits[i]))
      core::fail("the model's logit of token {} is {}", i, std::isnan(logits[i]) ? NAN : logits[i]);
}

// Every token of the text once, however often it is there.
std::vector<float> penalised(std::span<const float> logits, std::span<const std::int32_t> text, double penalty) {
  std::vector<float> result(logits.begin(), logits.end());
  for (const std::int32_t id : text)
    if (core::at(id) < logits.size()) {
      const double logit = logits[core::at(id)];
      result[core::at(id)] = static_cast<float>(logit > 0 ? logit / penalty : logit * penalty);
    }
  return result;
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

std::int32_t most_likely(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

void check(const SamplingOptions& o) {
  if (!(o.temperature >= 0) || std::isinf(o.temperature))
    core::fail("temperature {} is not valid; it is at least 0", o.temperature);
  if (o.top_k < 0) core::fail("top_k {} is not valid; it is at least 1, or 0 for all tokens", o.top_k);
  if (!(o.top_p > 0 && o.top_p <= 1)) core::fail("top_p {} is not valid; it is above 0 and at most 1", o.top_p);
  if (!(o.repetition_penalty > 0) || std::isinf(o.repetition_penalty))
    core::fail("repetition_penalty {} is not valid; it is above 0, and 1 for none", o.repetition_penalty);
}

std::int32_t sample_token(std::span<const float> given, std::span<const std::int32_t> text, const SamplingOptions& options,
                          std::uint64_t seed) {
  check(options);
  check_logits(given);
  std::vector<float> changed;
  if (options.repetition_penalty != 1) changed = penalised(given, text, options.repetition_penalty);
  const std::span<const float> logits = changed.empty() ? given : changed;
  if (options.temperature == 0) return most_likely(logits);
  std::size_t k = options.top_k == 0 ? logits.size() : std::min(logits.size(), core::at(options.top_k));
  const std::vector<std::int32_t> ids = best(logits, k);
  std::vector<double> cumulative(k);
  double total = 0;
  for (std::size_t i = 0; i < k; ++i)
    cumulative[i] = total += std::exp((double(logits[ids[i]]) - logits[ids[0]]) / options.temperature);
  if (options.top_p < 1) {
    const auto enough = std::lower_bound(cumulative.begin(), cumulative.end(), options.top_p * total);
    k = std::min(k, core::at(enough - cumulative.begin()) + 1);
    total = cumulative[k - 1];
  }
  constexpr std::uint64_t kStream = (1ull << 63) | (1ull << 62);  // apart from those of dropout and sample order
  const double target = total * core::uniform(seed, kStream, text.size());
  const auto end = cumulative.begin() + static_cast<std::ptrdiff_t>(k);
  const auto at = std::upper_bound(cumulative.begin(), end, target);
  return ids[std::min(k - 1, core::at(at - cumulative.begin()))];
}

}  // namespace muonp::models
