#include "models/generation/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "core/base/index.h"

using namespace muonp;
using namespace muonp::models;

namespace {

const std::vector<float> kLogits = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};

std::vector<double> shares(const SamplingOptions& options, int count) {
  std::vector<double> share(kLogits.size());
  for (int i = 0; i < count; ++i) share[core::at(sample_token(kLogits, {}, options, std::uint64_t(i)))] += 1.0 / count;
  return share;
}

}  // namespace

TEST(Sampling, TemperatureZeroIsGreedyWithTiesToTheLowerId) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) EXPECT_EQ(sample_token(kLogits, {}, {.temperature = 0}, seed), 1);
}

TEST(Sampling, FrequenciesFollowTheSoftmax) {
  constexpr int kCount = 20000;
  for (const double temperature : {0.7, 1.0, 2.0}) {
    const std::vector<double> share = shares({.temperature = temperature}, kCount);
    double total = 0;
    for (const float l : kLogits) total += std::exp(double(l) / temperature);
    for (std::size_t i = 0; i < share.size(); ++i) {
      const double p = std::exp(double(kLogits[i]) / temperature) / total;
      EXPECT_NEAR(share[i], p, 4 * std::sqrt(p * (1 - p) / kCount)) << temperature;
    }
  }
}

TEST(Sampling, TopKKeepsTheKMostLikely) {
  const std::vector<double> share = shares({.top_k = 3}, 2000);
  EXPECT_EQ(share[0], 0);
  EXPECT_EQ(share[2], 0);
  EXPECT_GT(share[4], 0);
  EXPECT_NEAR(shares({.top_k = 1}, 100)[1], 1, 1e-9);
  EXPECT_EQ(shares({.top_k = 100}, 500), shares({}, 500));
}

TEST(Sampling, TopPKeepsTheFewestOfThatProbability) {
  // The probabilities are 0.379, 0.379, 0.139, 0.084 and 0.019.
  for (const auto& [p, kept] :
       {std::pair{0.1, 1}, {0.37, 1}, {0.39, 2}, {0.75, 2}, {0.77, 3}, {0.89, 3}, {0.9, 4}, {1.0, 5}}) {
    const std::vector<double> share = shares({.top_p = p}, 2000);
    EXPECT_EQ(std::ranges::count_if(share, [](double s) { return s > 0; }), kept) << p;
  }
}

TEST(Sampling, RepeatedTokensAreDividedOrMultipliedByThePenaltyOnce) {
  const std::vector<std::int32_t> text = {1, 2, 1, 3, 99};
  EXPECT_EQ(sample_token(kLogits, text, {.repetition_penalty = 1.9, .temperature = 0}, 0), 1);  // 2 / 1.9 is above 1
  EXPECT_EQ(sample_token(kLogits, text, {.repetition_penalty = 2.1, .temperature = 0}, 0), 4);
  const std::vector<float> below = {-1.0f, -1.5f};
  EXPECT_EQ(sample_token(below, std::vector<std::int32_t>{0}, {.repetition_penalty = 2, .temperature = 0}, 0), 1);
}

TEST(Sampling, BadOptionsAndLogitsAreErrors) {
  for (const SamplingOptions& options : std::vector<SamplingOptions>{{.temperature = -1},
                                                                     {.temperature = NAN},
                                                                     {.top_k = -1},
                                                                     {.top_p = 0},
                                                                     {.top_p = 1.5},
                                                                     {.repetition_penalty = 0},
                                                                     {.repetition_penalty = NAN}})
    EXPECT_THROW(sample_token(kLogits, {}, options, 0), core::Error);
  EXPECT_THROW(sample_token(std::vector<float>{1, NAN}, {}, {}, 0), core::Error);
}
