#include "models/generation/generate.h"

#include <gmock/gmock.h>

#include "core/base/storage.h"
#include "core/device/host_view.h"
#include "tests/models/llama/tiny_llama.h"

namespace muonp::models::testing {
namespace {

using ::testing::ElementsAre;

std::vector<std::int32_t> prompt_of(std::int64_t length, std::uint64_t seed) { return random_ids(length, 11, seed); }

std::vector<std::vector<std::int32_t>> texts(Instance& of, const std::vector<Prompt>& prompts, const GenerationOptions& o,
                                             const OnToken& on_token = {}) {
  return generate(*of.device, *of.model, prompts, o, on_token);
}

// With weights that are not small, so that a wrong position or a wrong key shows.
std::unique_ptr<Instance> lively(const ModelConfig& config, core::Dtype dtype = core::Dtype::float32) {
  auto instance = std::make_unique<Instance>(make_model(config), dtype);
  for (const core::Parameter* p : instance->model->parameters()) {
    const core::HostView host(instance->device->queue(), p->value, core::Access::read_write);
    core::with_float_type(dtype, [&]<class T>(T) {
      for (T& x : host.span<T>()) x = T(float(x) * (p->kind == core::ParameterKind::vector ? 1.0f : 15.0f));
    });
    host.upload();
  }
  return instance;
}

std::vector<float> logits_of(const core::Tensor& t) { return test::values_of(t); }

}  // namespace

// Prompts of unequal lengths, then token by token: what comes out behind the cache is what a whole pass says.
TEST(Generate, LogitsBehindTheCacheAreThoseOfAWholePass) {
  std::vector<ModelConfig> configs = all_families();
  for (const char* kind : {"linear", "dynamic", "llama3", "yarn"}) {
    LlamaConfig c = tiny_llama();
    c.rope.kind = kind;
    c.rope.factor = 4;
    configs.push_back(config_of("llama", c));
  }
  for (const ModelConfig& config : configs) {
    const auto of = lively(config);
    const std::vector<std::int32_t> a = prompt_of(12, 1), b = prompt_of(12, 2);
    KeyValueCache cache = of->model->make_cache(*of->device, 2, 12, core::Dtype::float32);
    std::int64_t read_a = 0, read_b = 0;
    const auto go_on = [&](std::int64_t more_a, std::int64_t more_b) {
      const std::int64_t most = std::max(more_a, more_b);
      std::vector<std::int32_t> inputs(core::at(2 * most), 7);  // what stands behind the tokens has no effect
      std::copy_n(a.begin() + read_a, more_a, inputs.begin());
      std::copy_n(b.begin() + read_b, more_b, inputs.begin() + most);
      core::Tape tape(*of->device, false);
      const std::int64_t counts[] = {more_a, more_b};
      const core::Tensor next = of->model->next_logits(tape, of->ids(inputs, 2), counts, cache);
      read_a += more_a;
      read_b += more_b;
      for (const auto& [row, text, length] : {std::tuple{0, &a, read_a}, {1, &b, read_b}}) {
        core::Tape whole(*of->device, false);
        const std::vector<std::int32_t> seen(text->begin(), text->begin() + length);
        const std::vector<float> expected = logits_of(of->model->next_token_logits(whole, of->ids(seen, 1)));
        const std::vector<float> found = logits_of(next[row]);
        for (std::size_t i = 0; i < found.size(); ++i)
          ASSERT_NEAR(found[i], expected[i], 2e-5 * (1 + std::abs(expected[i])))
              << config.family << " " << config.llama.rope.kind << ", text " << row << " of " << length;
      }
    };
    go_on(3, 7);
    go_on(1, 1);
    go_on(4, 1);
    for (int i = 0; i < 3; ++i) go_on(1, 1);
    EXPECT_THAT(cache.lengths, ElementsAre(11, 12));
  }
}

TEST(Generate, OneSequenceOfACacheIsAViewOfIt) {
  const auto of = lively(config_of("llama"));
  KeyValueCache cache = of->model->make_cache(*of->device, 2, 12, core::Dtype::float32);
  KeyValueCache second = cache.sequence(1);
  const std::vector<std::int32_t> text = prompt_of(5, 1);
  core::Tape tape(*of->device, false);
  const std::int64_t counts[] = {5};
  of->model->next_logits(tape, of->ids(text, 1), counts, second);
  EXPECT_THAT(second.lengths, ElementsAre(5));
  EXPECT_EQ(logits_of(cache.layers[0].keys[1].flat(0, 20)), logits_of(second.layers[0].keys.flat(0, 20)));
}

TEST(Generate, LogitsOfAllPositionsEndInThoseOfTheLast) {
  for (const ModelConfig& config : all_families()) {
    const auto of = lively(config);
    const std::vector<std::int32_t> text = prompt_of(12, 3);
    core::Tape tape(*of->device, false);
    const core::Tensor all = of->model->logits(tape, of->ids(text, 2));
    const std::int64_t vocabulary = of->model->vocabulary();
    ASSERT_EQ(all.shape(), (core::Shape{2, 6, vocabulary}));
    const core::Tensor last = of->model->next_token_logits(tape, of->ids(text, 2));
    for (int b = 0; b < 2; ++b) {
      const std::vector<float> found = logits_of(all[b][5]), expected = logits_of(last[b]);
      for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-5 * (1 + std::abs(expected[i])));
    }
  }
}

TEST(Generate, ATextDoesNotDependOnTheCacheOrOnItsCompany) {
  for (const ModelConfig& config : all_families()) {
    const auto of = lively(config);
    const std::vector<Prompt> prompts = {{prompt_of(2, 1), 5}, {prompt_of(6, 2), 5}, {prompt_of(1, 3), 6}};
    for (const double temperature : {0.0, 1.0}) {
      GenerationOptions o{
          .tokens = 20, .sampling = {.temperature = temperature}, .stop_tokens = {}};  // past the context of 12
      const auto together = texts(*of, prompts, o);
      o.cache = false;
      EXPECT_EQ(together, texts(*of, prompts, o)) << config.family;
      o.cache = true;
      for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(texts(*of, {prompts[i]}, o)[0], together[i]);
      for (const auto& text : together) EXPECT_EQ(text.size(), 20u);
    }
  }
}

TEST(Generate, SeedsChooseAndTextsGoOnPastTheContext) {
  Instance gpt(tiny_config());  // a context of 6
  const auto text = [&](const std::vector<std::int32_t>& prompt, std::int64_t count, std::uint64_t seed) {
    return texts(gpt, {{prompt, seed}}, {.tokens = count, .sampling = {}, .stop_tokens = {}})[0];
  };
  const std::vector<std::int32_t> prompt = {1, 2, 3};
  const auto whole = text(prompt, 20, 4);
  EXPECT_EQ(whole.size(), 20u);
  EXPECT_EQ(whole, text(prompt, 20, 4));
  EXPECT_NE(whole, text(prompt, 20, 5));
  // The same however the text is cut into calls.
  std::vector<std::int32_t> longer = prompt;
  longer.insert(longer.end(), whole.begin(), whole.begin() + 10);
  EXPECT_EQ(text(longer, 10, 4), std::vector<std::int32_t>(whole.begin() + 10, whole.end()));
}

TEST(Generate, EndsAtStopTokensAndWhereTheReceiverSaysSo) {
  const auto of = lively(config_of("llama"));
  const std::vector<Prompt> prompts = {{{1, 2, 3}, 1}, {{4}, 2}};
  GenerationOptions o{.tokens = 20, .sampling = {}, .stop_tokens = {}};
  const auto whole = texts(*of, prompts, o);
  const std::int32_t stop = whole[0][4];
  const auto end = std::ranges::find(whole[0], stop);
  o.stop_tokens = {stop};
  EXPECT_EQ(texts(*of, prompts, o)[0], std::vector<std::int32_t>(whole[0].begin(), end + 1));
  o.stop_tokens = {};
  std::vector<int> seen(2, 0);
  const auto cut = texts(*of, prompts, o, [&](std::size_t i, std::int32_t) { return ++seen[i] < 5 || i == 1; });
  EXPECT_EQ(cut[0], std::vector<std::int32_t>(whole[0].begin(), whole[0].begin() + 5));
  EXPECT_EQ(cut[1], whole[1]);
}

TEST(Generate, EmptyPromptsAndForeignTokensAreErrors) {
  Instance gpt(tiny_config());
  const GenerationOptions one{.tokens = 1, .sampling = {}, .stop_tokens = {}};
  EXPECT_THROW(texts(gpt, {{{}, 1}}, one), core::Error);
  EXPECT_THROW(texts(gpt, {{{99}, 1}}, one), core::Error);
}

}  // namespace muonp::models::testing
