#include "tests/models/llama/llama_reference.h"

#include <gtest/gtest.h>

#include "tests/models/llama/tiny_llama.h"

namespace muonp::models::testing {
namespace {

struct Case {
  std::string name;
  ModelConfig config;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](const std::string& name, const std::string& family, const std::function<void(LlamaConfig&)>& change) {
    all.push_back({name, config_of(family)});
    change(all.back().config.llama);
  };
  add("llama", "llama", [](LlamaConfig&) {});
  add("untied", "llama", [](LlamaConfig& c) { c.tied_head = false; });
  add("mistral", "mistral", [](LlamaConfig& c) { c.window = 3; });
  add("qwen2", "qwen2", [](LlamaConfig& c) { c.norm_epsilon = 1e-2; });
  add("qwen3", "qwen3", [](LlamaConfig& c) { c.head_size = 6; });
  for (const char* kind : {"linear", "dynamic", "llama3", "yarn"})
    add(kind, "llama", [&](LlamaConfig& c) {
      c.rope.kind = kind;
      c.rope.theta = 50;
      c.rope.factor = 3;
      c.rope.original_context = 4;
      c.rope.high_frequency_factor = 1.5;
      c.rope.low_frequency_factor = 0.2;
      c.rope.beta_fast = 2;
      c.rope.beta_slow = 0.1;
      c.rope.truncate = false;
    });
  return all;
}

class LlamaReferenceTest : public ::testing::TestWithParam<Case> {};

// Numbers large enough that no path of the model is nearly linear or nearly zero.
LlamaReference::Weights randomise(const core::ParameterList& parameters) {
  LlamaReference::Weights weights;
  for (core::Parameter* p : parameters) {
    std::vector<float> values;
    const float middle = p->init.kind == core::Initializer::Kind::ones ? 1.0f : 0.0f;
    for (std::int64_t i = 0; i < p->size(); ++i)
      values.push_back(middle + 0.4f * core::normal(9, weights.size(), std::uint64_t(i)));
    weights[p->name] = {values.begin(), values.end()};
    test::set_values(p->value, values);
  }
  return weights;
}

const std::vector<std::int32_t> kInputs = {1, 0, 10, 3, 1, 12, 7, 4, 4, 2}, kTargets = {0, 10, -1, 1, 5, 7, 4, 4, 2, -1};

}  // namespace

TEST_P(LlamaReferenceTest, LogitsLossAndGradientsMatch) {
  const LlamaConfig config = GetParam().config.resolved().llama;
  Instance of(make_llama(config));
  LlamaReference::Weights weights = randomise(of.model->parameters());
  const LlamaReference reference(config, weights);
  const auto mean_loss = [&] { return reference.sum_of_losses(kInputs, kTargets) / 8; };

  core::Tape tape(*of.device, false);
  const std::vector<float> logits = test::values_of(of.model->logits(tape, of.ids(kInputs, 1)));
  std::size_t i = 0;
  for (const auto& row : reference.logits(kInputs))
    for (const double expected : row) ASSERT_NEAR(logits[i++], expected, 3e-5 * (1 + std::abs(expected)));
  EXPECT_EQ(i, logits.size());
  const float loss = of.step({of.ids(kInputs, 1), of.ids(kTargets, 1)});
  EXPECT_NEAR(loss, mean_loss(), 1e-5 * std::abs(loss));

  // Differences of second order with a step of 1e-4 are good to 1e-8; float32 gradients to about 1e-5 of the largest.
  constexpr double kStep = 1e-4;
  for (const core::Parameter* p : of.model->parameters()) {
    const std::vector<float> gradient = test::values_of(p->gradient);
    double largest = 0;
    for (const float g : gradient) largest = std::max(largest, double(std::abs(g)));
    EXPECT_GT(largest, 1e-4) << p->name;
    for (const std::int64_t at : {std::int64_t(0), p->size() / 3, p->size() - 1}) {
      double& w = weights[p->name][std::size_t(at)];
      const double middle = w;
      w = middle + kStep;
      const double above = mean_loss();
      w = middle - kStep;
      const double below = mean_loss();
      w = middle;
      EXPECT_NEAR(gradient[std::size_t(at)], (above - below) / (2 * kStep), 3e-5 * largest + 1e-7) << p->name << " " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryKind, LlamaReferenceTest, ::testing::ValuesIn(cases()),
                         [](const ::testing::TestParamInfo<Case>& c) { return c.param.name; });

}  // namespace muonp::models::testing
