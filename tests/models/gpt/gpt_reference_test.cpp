#include <gtest/gtest.h>

#include "tests/models/gpt/gpt_reference.h"
#include "tests/models/gpt/tiny_gpt.h"

using namespace muonp;
using namespace muonp::models;
using namespace muonp::models::testing;

namespace {

using Choice = std::tuple<const char*, const char*, const char*, bool, bool>;  // positions, activation, norm, tied, bias

class GptReferenceTest : public ::testing::TestWithParam<Choice> {
 protected:
  static GptConfig config() {
    GptConfig c = tiny_config();
    std::tie(c.positions, c.activation, c.norm, c.tied_head, c.bias) = GetParam();
    return c;
  }
};

// Every parameter gets numbers large enough that no path of the model is nearly linear or nearly zero.
Weights randomise(const core::ParameterList& parameters) {
  Weights weights;
  for (core::Parameter* p : parameters) {
    Vector& w = weights[p->name];
    std::vector<float> values;
    const bool gain = p->init.kind == core::Initializer::Kind::ones;
    for (std::int64_t i = 0; i < p->size(); ++i) {
      const float value = (gain ? 1.0f : 0.0f) + 0.4f * core::normal(9, weights.size(), std::uint64_t(i));
      values.push_back(value);
      w.push_back(double(value));
    }
    test::set_values(p->value, values);
  }
  return weights;
}

const std::vector<std::vector<std::int32_t>> kInputs = {{1, 0, 10, 3, 1}, {4, 4, 2, 9, 7}};
const std::vector<std::vector<std::int32_t>> kTargets = {{0, 10, -1, 1, 5}, {4, 2, 9, 7, -1}};

std::string name_of_choice(const ::testing::TestParamInfo<Choice>& choice) {
  const auto& [positions, activation, norm, tied, bias] = choice.param;
  return fmt::format("{}_{}_{}_{}_{}", positions, activation, norm, tied ? "tied" : "untied", bias ? "bias" : "plain");
}

std::vector<std::int32_t> joined(const std::vector<std::vector<std::int32_t>>& rows) {
  std::vector<std::int32_t> all;
  for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
  return all;
}

}  // namespace

TEST_P(GptReferenceTest, LogitsLossAndGradientsMatch) {
  Instance gpt(config());
  Weights weights = randomise(gpt.model->parameters());
  const GptReference reference(config(), weights);

  core::Tape tape(*gpt.device, false);
  const core::Tensor last = gpt.model->next_token_logits(tape, gpt.ids(joined(kInputs), 2));
  for (std::size_t b = 0; b < 2; ++b) {
    const Vector expected = reference.logits(kInputs[b]).back();
    for (std::size_t v = 0; v < expected.size(); ++v)
      EXPECT_NEAR(test::value_of(last[std::int64_t(b)], std::int64_t(v)), expected[v], 2e-5 * (1 + std::abs(expected[v])));
  }

  const float loss = gpt.step({gpt.ids(joined(kInputs), 2), gpt.ids(joined(kTargets), 2)});
  EXPECT_NEAR(loss, reference.loss(kInputs, kTargets), 1e-5 * std::abs(loss));

  // Differences of second order with a step of 1e-4 are good to 1e-8; float32 gradients to about 1e-5 of the
  // largest.
  constexpr double kStep = 1e-4;
  for (const core::Parameter* p : gpt.model->parameters()) {
    const std::vector<float> gradient = test::values_of(p->gradient);
    double largest = 0;
    for (const float g : gradient) largest = std::max(largest, double(std::abs(g)));
    EXPECT_GT(largest, 1e-4) << p->name;
    for (const std::int64_t i : {std::int64_t(0), p->size() / 3, p->size() - 1}) {
      double& w = weights[p->name][std::size_t(i)];
      const double middle = w;
      w = middle + kStep;
      const double above = reference.loss(kInputs, kTargets);
      w = middle - kStep;
      const double below = reference.loss(kInputs, kTargets);
      w = middle;
      EXPECT_NEAR(gradient[std::size_t(i)], (above - below) / (2 * kStep), 2e-5 * largest + 1e-7)
          << p->name << ", element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryChoice, GptReferenceTest,
                         ::testing::Combine(::testing::Values("learned", "rotary"),
                                            ::testing::Values("gelu", "relu2", "swiglu"),
                                            ::testing::Values("layer_norm", "rms_norm"), ::testing::Bool(),
                                            ::testing::Bool()),
                         name_of_choice);
