#include "models/generation/sampling.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tiny_gpt.h"

using namespace muonp;
using namespace muonp::models;
using namespace muonp::models::testing;

namespace {

const std::vector<float> kLogits = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};

std::vector<double> shares(const SamplingOptions& options, int count) {
  std::vector<double> share(kLogits.size());
  for (int i = 0; i < count; ++i) share[std::size_t(sample_token(kLogits, options, std::uint64_t(i)))] += 1.0 / count;
  return share;
}

}  // namespace

TEST(Sampling, TemperatureZeroIsGreedyWithTiesToTheLowerId) {
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(sample_token(kLogits, {.temperature = 0}, i), 1);
}

TEST(Sampling, FrequenciesFollowTheSoftmax) {
  constexpr int kCount = 20000;
  for (const double temperature : {0.7, 1.0, 2.0}) {
    const std::vector<double> share = shares({.temperature = temperature, .seed = 3}, kCount);
    double total = 0;
    for (const float l : kLogits) total += std::exp(double(l) / temperature);
    for (std::size_t i = 0; i < share.size(); ++i) {
      const double p = std::exp(double(kLogits[i]) / temperature) / total;
      EXPECT_NEAR(share[i], p, 4 * std::sqrt(p * (1 - p) / kCount)) << temperature;
    }
  }
}

TEST(Sampling, TopKKeepsTheKMostLikely) {
  const std::vector<double> share = shares({.top_k = 3, .seed = 3}, 2000);
  EXPECT_EQ(share[0], 0);
  EXPECT_EQ(share[2], 0);
  EXPECT_GT(share[4], 0);
  EXPECT_NEAR(shares({.top_k = 1}, 100)[1], 1, 1e-9);
  EXPECT_EQ(shares({.top_k = 100, .seed = 3}, 500), shares({.seed = 3}, 500));
}

TEST(Sampling, BadOptionsAndLogitsAreErrors) {
  EXPECT_THROW(sample_token(kLogits, {.temperature = -1}, 0), core::Error);
  EXPECT_THROW(sample_token(kLogits, {.temperature = NAN}, 0), core::Error);
  EXPECT_THROW(sample_token(kLogits, {.top_k = -1}, 0), core::Error);
  EXPECT_THROW(sample_token(std::vector<float>{1, NAN}, {}, 0), core::Error);
}

TEST(Generate, IsReproducibleAndGoesOnPastTheContext) {
  Instance gpt(tiny_config());  // a context of 6
  const std::vector<std::int32_t> prompt = {1, 2, 3};
  const auto text = generate(*gpt.device, *gpt.model, prompt, 20, {.seed = 4});
  EXPECT_EQ(text.size(), 20u);
  EXPECT_EQ(text, generate(*gpt.device, *gpt.model, prompt, 20, {.seed = 4}));
  EXPECT_NE(text, generate(*gpt.device, *gpt.model, prompt, 20, {.seed = 5}));
  for (const std::int32_t id : text) EXPECT_TRUE(id >= 0 && id < 11);
  // The second half does not depend on how the text is cut into calls.
  std::vector<std::int32_t> longer = prompt;
  longer.insert(longer.end(), text.begin(), text.begin() + 10);
  EXPECT_EQ(generate(*gpt.device, *gpt.model, longer, 10, {.seed = 4}),
            std::vector<std::int32_t>(text.begin() + 10, text.end()));
}

TEST(Generate, StopsWhenTold) {
  Instance gpt(tiny_config());
  int seen = 0;
  const auto text =
      generate(*gpt.device, *gpt.model, std::vector<std::int32_t>{1}, 20, {}, [&](std::int32_t) { return ++seen < 5; });
  EXPECT_EQ(text.size(), 5u);
  EXPECT_THROW(generate(*gpt.device, *gpt.model, {}, 1, {}), core::Error);
  EXPECT_THROW(generate(*gpt.device, *gpt.model, std::vector<std::int32_t>{99}, 1, {}), core::Error);
}
