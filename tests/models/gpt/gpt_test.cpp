#include "models/gpt/gpt.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/models/gpt/tiny_gpt.h"

using namespace muonp;
using namespace muonp::models;
using namespace muonp::models::testing;
using ::testing::ElementsAre;

namespace {

std::vector<std::vector<float>> gradients(Instance& gpt) {
  std::vector<std::vector<float>> all;
  for (const core::Parameter* p : gpt.model->parameters()) all.push_back(test::values_of(p->gradient));
  return all;
}

double largest_difference(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  double worst = 0;
  for (std::size_t p = 0; p < a.size(); ++p)
    for (std::size_t i = 0; i < a[p].size(); ++i) worst = std::max(worst, double(std::abs(a[p][i] - b[p][i])));
  return worst;
}

}  // namespace

TEST(Gpt, ParametersAreInOrderOfFirstUseWithTheirKinds) {
  GptConfig c = tiny_config();
  c.layers = 1;
  c.tied_head = false;
  const auto model = make_gpt(c);
  std::vector<std::string> names;
  for (const core::Parameter* p : model->parameters())
    names.push_back(fmt::format("{} {} {}", p->name, core::name_of(p->kind), core::to_string(p->shape)));
  EXPECT_THAT(names, ElementsAre("token_embedding.weight embedding [11, 8]", "position_embedding.weight embedding [6, 8]",
                                 "blocks.0.attention_norm.weight vector [8]", "blocks.0.attention_norm.bias vector [8]",
                                 "blocks.0.attention.qkv.weight matrix [24, 8]", "blocks.0.attention.qkv.bias vector [24]",
                                 "blocks.0.attention.projection.weight matrix [8, 8]",
                                 "blocks.0.attention.projection.bias vector [8]", "blocks.0.mlp_norm.weight vector [8]",
                                 "blocks.0.mlp_norm.bias vector [8]", "blocks.0.mlp.up.weight matrix [16, 8]",
                                 "blocks.0.mlp.up.bias vector [16]", "blocks.0.mlp.down.weight matrix [8, 16]",
                                 "blocks.0.mlp.down.bias vector [8]", "final_norm.weight vector [8]",
                                 "final_norm.bias vector [8]", "head.weight head [11, 8]"));
}

TEST(Gpt, GradientsAreAnnouncedInReverseOrderOfFirstUse) {
  for (const bool tied : {false, true}) {
    GptConfig c = tiny_config();
    c.tied_head = tied;
    Instance gpt(c);
    const core::Tensor ids = gpt.ids(random_ids(10, c.vocabulary, 1), 2);
    gpt.step({ids, ids});
    core::ParameterList expected = gpt.model->parameters();
    std::reverse(expected.begin(), expected.end());
    EXPECT_EQ(gpt.plain.completed(), expected) << tied;
  }
}

TEST(Gpt, LossAtTheStartIsThatOfUniformGuessing) {
  GptConfig c;
  c.preset = "gpt-1m";
  c.vocabulary = 256;
  Instance gpt(c);
  const core::Tensor inputs = gpt.ids(random_ids(128, 256, 1), 2), targets = gpt.ids(random_ids(128, 256, 2), 2);
  core::Tape tape(*gpt.device, false);
  const float loss = test::value_of(gpt.model->loss(tape, {inputs, targets}, {})->value);
  // Logits have standard deviation s ≈ 0.02·√width·(norm 1) = 0.23, which adds about s²/2.
  EXPECT_NEAR(loss, std::log(256.0), 0.08);
}

TEST(Gpt, DropoutDoesNotDependOnTheSplitIntoMicroBatches) {
  GptConfig c = tiny_config();
  c.dropout = 0.3;
  Instance gpt(c);
  const std::vector<std::int32_t> inputs = random_ids(24, c.vocabulary, 1), targets = random_ids(24, c.vocabulary, 2);
  const auto pass = [&](std::int64_t first, std::int64_t rows) {  // of 4 sequences of 6
    const auto part = [&](const std::vector<std::int32_t>& ids) {
      return gpt.ids({ids.begin() + first * 6, ids.begin() + (first + rows) * 6}, rows);
    };
    const float share = float(rows) / 4;
    return share * gpt.step({part(inputs), part(targets)}, {.seed = 5, .step = 17, .first_row = first}, share);
  };
  gpt.plain.start_step();
  const float whole = pass(0, 4);
  const auto expected = gradients(gpt);
  for (const std::int64_t rows : {1, 2}) {
    gpt.plain.start_step();
    float loss = 0;
    for (std::int64_t first = 0; first < 4; first += rows) loss += pass(first, rows);
    EXPECT_NEAR(loss, whole, 1e-6);
    EXPECT_LT(largest_difference(gradients(gpt), expected), 1e-6) << rows;
  }
  EXPECT_EQ(pass(0, 4), whole) << "the same key gives the same masks";
}

TEST(Gpt, DropoutChangesWithSeedStepAndRowAndStopsWithoutRecording) {
  GptConfig c = tiny_config();
  c.dropout = 0.3;
  Instance gpt(c);
  const core::Tensor ids = gpt.ids(random_ids(12, c.vocabulary, 1), 2);
  const auto loss = [&](const DropoutKey& key, bool recording) {
    core::Tape tape(*gpt.device, recording);
    return test::value_of(gpt.model->loss(tape, {ids, ids}, key)->value);
  };
  const DropoutKey key{.seed = 1, .step = 2, .first_row = 4};
  const float with = loss(key, true);
  EXPECT_NE(with, loss({.seed = 2, .step = 2, .first_row = 4}, true));
  EXPECT_NE(with, loss({.seed = 1, .step = 3, .first_row = 4}, true));
  EXPECT_NE(with, loss({.seed = 1, .step = 2, .first_row = 6}, true));
  c.dropout = 0;
  Instance without(c);
  core::Tape tape(*without.device, true);
  EXPECT_EQ(loss(key, false), test::value_of(without.model->loss(tape, {ids, ids}, key)->value));
}

TEST(Gpt, HeadChunksDoNotChangeTheResult) {
  GptConfig c = tiny_config();
  Instance whole(c);
  c.head_chunk_rows = 4;
  Instance chunked(c);
  const core::Tensor ids = whole.ids(random_ids(12, c.vocabulary, 1), 2);
  EXPECT_NEAR(whole.step({ids, ids}), chunked.step({ids, ids}), 1e-6);
  EXPECT_LT(largest_difference(gradients(whole), gradients(chunked)), 1e-6);
}

TEST(Gpt, ResultIsTheSameForAnyNumberOfThreads) {
  GptConfig c;
  c.preset = "gpt-1m";
  c.vocabulary = 300;
  std::vector<std::vector<float>> first;
  for (const int threads : {1, 2}) {
    Instance gpt(c, core::Dtype::float32, test::make_cpu_test_device(threads));
    const core::Tensor ids = gpt.ids(random_ids(130, 300, 1), 2);
    gpt.step({ids, ids});
    if (first.empty()) {
      first = gradients(gpt);
    } else {
      EXPECT_LT(largest_difference(first, gradients(gpt)), 1e-6);  // products may sum in another order
    }
  }
}

TEST(Gpt, Bfloat16IsCloseToFloat32) {
  GptConfig c;
  c.preset = "gpt-1m";
  c.vocabulary = 64;
  for (const char* positions : {"learned", "rotary"})
    for (const char* activation : {"gelu", "relu2", "swiglu"}) {
      c.positions = positions;
      c.activation = activation;
      Instance exact(c), narrow(c, core::Dtype::bfloat16);
      const core::Tensor inputs = exact.ids(random_ids(128, 64, 1), 2), targets = exact.ids(random_ids(128, 64, 2), 2);
      EXPECT_NEAR(exact.step({inputs, targets}), narrow.step({inputs, targets}), 0.01);
      double difference = 0, norm = 0;
      const auto g = gradients(exact), h = gradients(narrow);
      for (std::size_t p = 0; p < g.size(); ++p)
        for (std::size_t i = 0; i < g[p].size(); ++i) {
          difference += std::pow(double(g[p][i]) - double(h[p][i]), 2);
          norm += std::pow(double(g[p][i]), 2);
        }
      // Each value carries a relative error of 2^-9; a dozen roundings lie between a token and a gradient.
      EXPECT_LT(std::sqrt(difference / norm), 12 * 0x1p-9) << positions << " " << activation;
    }
}

TEST(Gpt, SequenceLongerThanTheContextIsAnError) {
  Instance gpt(tiny_config());
  const core::Tensor ids = gpt.ids(random_ids(7, 11, 1), 1);
  core::Tape tape(*gpt.device, false);
  EXPECT_THROW(gpt.model->loss(tape, {ids, ids}, {}), core::Error);
}

TEST(Gpt, ResidualProjectionsStartSmaller) {
  GptConfig c = tiny_config();
  c.layers = 8;
  const auto model = make_gpt(c);
  for (const core::Parameter* p : model->parameters()) {
    const bool residual = p->name.ends_with("projection.weight") || p->name.ends_with("down.weight");
    if (p->init.kind == core::Initializer::Kind::normal) {
      EXPECT_DOUBLE_EQ(p->init.stddev, residual ? 0.005 : 0.02) << p->name;
    }
  }
}

TEST(Gpt, StepFlopsOfGpt2AreTheKnownNumber) {
  GptConfig c;
  c.preset = "gpt2-124m";
  const auto model = make_gpt(c);
  // 6·(12·12·768² + 50257·768) a token, and 12·12·768·64 for attention.
  const double per_token = 6.0 * (12.0 * 12 * 768 * 768 + 50257.0 * 768) + 12.0 * 12 * 768 * 64;
  EXPECT_DOUBLE_EQ(model->step_flops(4, 64), 256 * per_token);
  // A query and the keys behind it: 64·63/2 pairs of a sequence's 64², 12·12·768 for each.
  EXPECT_DOUBLE_EQ(model->skipped_flops(4, 64), 4 * (64.0 * 63 / 2) * 12.0 * 12 * 768);
  EXPECT_EQ(model->description(), "GPT, 12 layers, 768 wide, 12 heads, 124.4 M parameters");
}

namespace {

std::vector<GptConfig> variants() {
  std::vector<GptConfig> all;
  for (const bool tied : {false, true})
    for (const char* recompute : {"none", "blocks"}) {
      GptConfig c = tiny_config();
      c.tied_head = tied;
      c.recompute = recompute;
      c.dropout = 0.2;
      all.push_back(c);
      c.positions = "rotary";
      c.norm = "rms_norm";
      c.activation = "swiglu";
      c.bias = false;
      c.head_chunk_rows = 3;
      all.push_back(c);
    }
  return all;
}

}  // namespace

// Who gathers weights ahead of use relies on it (dist/plan/gather_plan.h).
TEST(Gpt, ReadsWeightsInTheOrderItTells) {
  using List = core::WeightReads::List;
  struct Watch : core::WeightSource {
    List seen;
    void acquire(std::span<core::Parameter* const> parameters) override {
      seen.emplace_back(parameters.begin(), parameters.end());
    }
  };
  const auto without_repetition = [](List reads) {  // a head by chunks reads its weight often
    reads.erase(std::unique(reads.begin(), reads.end()), reads.end());
    return reads;
  };
  for (const GptConfig& c : variants()) {
    Instance gpt(c);
    const TokenBatch batch{gpt.ids(random_ids(10, c.vocabulary, 1), 2), gpt.ids(random_ids(10, c.vocabulary, 2), 2)};
    const core::WeightReads told = gpt.model->weight_reads();
    std::int64_t forward = 0, backward = 0;
    for (const core::PassStretch& stretch : gpt.model->stretches({2, 5, core::Dtype::float32, gpt.device->kind()})) {
      forward += stretch.forward;
      backward += stretch.backward;
    }
    EXPECT_EQ(forward, std::ssize(told.forward));
    EXPECT_EQ(backward, std::ssize(told.backward));
    Watch watch;
    core::Tape tape(*gpt.device, true, &watch);
    const core::Variable loss = gpt.model->loss(tape, batch, {});
    EXPECT_EQ(without_repetition(watch.seen), told.forward);
    tape.backward(loss, 1, gpt.model->parameters(), gpt.plain);
    List all = told.forward;
    all.insert(all.end(), told.backward.begin(), told.backward.end());
    EXPECT_EQ(without_repetition(watch.seen), without_repetition(all));

    Watch logits;
    core::Tape silent(*gpt.device, false, &logits);
    gpt.model->next_token_logits(silent, batch.inputs);
    EXPECT_EQ(logits.seen, told.forward);
  }
}

TEST(Gpt, RecomputedBlocksGiveTheSameBits) {
  for (GptConfig c : variants()) {
    if (c.recompute == "none") continue;
    std::vector<float> losses;
    std::vector<std::vector<std::vector<float>>> all;
    for (const char* recompute : {"none", "blocks"}) {
      c.recompute = recompute;
      Instance gpt(c);
      const TokenBatch batch{gpt.ids(random_ids(10, c.vocabulary, 1), 2), gpt.ids(random_ids(10, c.vocabulary, 2), 2)};
      losses.push_back(gpt.step(batch, {7, 3, 4}));
      all.push_back(gradients(gpt));
    }
    EXPECT_EQ(losses[0], losses[1]);
    EXPECT_EQ(all[0], all[1]);
  }
}

TEST(Gpt, RecomputationIsAThirdMoreWorkInBlocks) {
  GptConfig c = tiny_config().resolved();
  EXPECT_EQ(gpt_recomputed_flops(c, 2, 6), 0);
  const double with_head = gpt_step_flops(c, 2, 6);
  c.recompute = "blocks";
  EXPECT_EQ(gpt_step_flops(c, 2, 6), with_head);  // useful work stays the same
  EXPECT_DOUBLE_EQ(3 * gpt_recomputed_flops(c, 2, 6), with_head - 6.0 * 12 * static_cast<double>(c.vocabulary * c.width));
}
