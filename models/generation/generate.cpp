#include "models/generation/generate.h"

#include <algorithm>
#include <optional>

#include "core/device/host_view.h"

namespace muonp::models {

namespace {

using core::Tensor;

struct Text {
  std::vector<std::int32_t> tokens;  // prompt and continuation
  std::size_t prompt;                // tokens of the prompt
  std::uint64_t seed;
  bool ended = false;
};

// Texts that are continued together. step() makes one token of each.
class Batch {
 public:
  Batch(core::Device& device, LanguageModel& model, std::span<const Prompt> prompts, const GenerationOptions& options,
        const OpenPass& open_pass)
      : device_(device), model_(model), options_(options), open_pass_(open_pass) {
    for (const Prompt& prompt : prompts) texts_.push_back({prompt.tokens, prompt.tokens.size(), prompt.seed});
    if (options.cache && !texts_.empty()) make_cache();
  }

  bool ended() const { return std::ranges::all_of(texts_, &Text::ended); }
  void step(const OnToken& on_token) {
    // By text; of those that go on.
    std::vector<std::vector<float>> logits(texts_.size());
    read_behind_cache(logits);
    for (std::size_t i = 0; i < texts_.size(); ++i)
      if (!texts_[i].ended && logits[i].empty()) logits[i] = read_anew(texts_[i]);
    for (std::size_t i = 0; i < texts_.size(); ++i)
      if (!texts_[i].ended) append(i, logits[i], on_token);
  }
  std::vector<std::vector<std::int32_t>> continuations() const {
    std::vector<std::vector<std::int32_t>> all;
    for (const Text& text : texts_)
      all.emplace_back(text.tokens.begin() + static_cast<std::ptrdiff_t>(text.prompt), text.tokens.end());
    return all;
  }

 private:
  void make_cache() {
    std::int64_t longest = 0;
    for (const Text& text : texts_) longest = std::max(longest, static_cast<std::int64_t>(text.prompt) + options_.tokens);
    cache_ = model_.make_cache(device_, std::ssize(texts_), std::min(longest, model_.context()), options_.compute);
  }
  core::Tape open() const { return open_pass_ ? open_pass_() : core::Tape(device_, false); }
  std::vector<float> row(const Tensor& logits, std::int64_t i) const {
    const core::HostView host(device_.queue(), logits[i], core::Access::read);
    const std::span<const float> values = host.span<float>();
    return {values.begin(), values.end()};
  }

  // Texts that fit in the model's context go on behind what the cache has of them.
  bool cached(const Text& text) const { return cache_ && !text.ended && std::ssize(text.tokens) <= model_.context(); }
  void read_behind_cache(std::vector<std::vector<float>>& logits) {
    std::vector<std::int64_t> counts(texts_.size(), 0);
    for (std::size_t i = 0; i < texts_.size(); ++i)
      if (cached(texts_[i]))
        counts[i] = std::ssize(texts_[i].tokens) - cache_->lengths[i];
      else if (cache_)
        cache_->lengths[i] = 0;  // what it holds is not read any more
    const std::int64_t most = counts.empty() ? 0 : std::ranges::max(counts);
    if (most == 0) return;
    const Tensor inputs = Tensor::on_host({std::ssize(texts_), most}, core::Dtype::int32);
    std::ranges::fill(inputs.span<std::int32_t>(), 0);
    for (std::size_t i = 0; i < texts_.size(); ++i)
      std::copy_n(texts_[i].tokens.end() - counts[i], counts[i],
                  inputs.data<std::int32_t>() + static_cast<std::int64_t>(i) * most);
    core::Tape tape = open();
    const Tensor all = model_.next_logits(tape, inputs, counts, *cache_);
    for (std::size_t i = 0; i < texts_.size(); ++i)
      if (counts[i] > 0) logits[i] = row(all, static_cast<std::int64_t>(i));
  }
  std::vector<float> read_anew(Text& text) const {
    const std::int64_t length = std::min(std::ssize(text.tokens), model_.context());
    std::int32_t* window = text.tokens.data() + (std::ssize(text.tokens) - length);
    core::Tape tape = open();
    return row(model_.next_token_logits(tape, Tensor::borrow(window, {1, length}, core::Dtype::int32)), 0);
  }

  void append(std::size_t i, std::span<const float> logits, const OnToken& on_token) {
    Text& text = texts_[i];
    const std::int32_t token = sample_token(logits, text.tokens, options_.sampling, text.seed);
    text.tokens.push_back(token);
    const bool wanted = !on_token || on_token(i, token);
    text.ended = !wanted || std::ranges::find(options_.stop_tokens, token) != options_.stop_tokens.end() ||
                 std::ssize(text.tokens) - static_cast<std::int64_t>(text.prompt) == options_.tokens;
  }

  core::Device& device_;
  LanguageModel& model_;
  const GenerationOptions& options_;
  const OpenPass& open_pass_;
  std::vector<Text> texts_;
  std::optional<KeyValueCache> cache_;
};

}  // namespace

std::vector<std::vector<std::int32_t>> generate(core::Device& device, LanguageModel& model, std::span<const Prompt> prompts,
                                                const GenerationOptions& options, const OnToken& on_token,
                                                const OpenPass& open_pass) {
  for (const Prompt& prompt : prompts)
    if (prompt.tokens.empty()) core::fail("a text cannot be continued from nothing: the prompt has no tokens");
  check(options.sampling);
  MUONP_ASSERT(options.tokens >= 0, "{} tokens", options.tokens);
  if (options.tokens == 0) return std::vector<std::vector<std::int32_t>>(prompts.size());
  Batch batch(device, model, prompts, options, open_pass);
  while (!batch.ended()) batch.step(on_token);
  return batch.continuations();
}

}  // namespace muonp::models
