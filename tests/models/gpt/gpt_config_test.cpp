#include <gmock/gmock.h>

#include "models/gpt/gpt.h"
#include "tests/models/gpt/tiny_gpt.h"

using namespace muonp;
using namespace muonp::models;
using namespace muonp::models::testing;
using ::testing::HasSubstr;

namespace {

std::string refusal(const std::function<void(GptConfig&)>& change) {
  GptConfig c = tiny_config();
  change(c);
  try {
    c.resolved();
  } catch (const core::Error& e) {
    return e.what();
  }
  return "accepted";
}

}  // namespace

TEST(GptConfig, PresetFillsWhatIsNotGiven) {
  GptConfig c;
  c.preset = "gpt2-124m";
  c.layers = 3;
  c.vocabulary = 1000;
  const GptConfig r = c.resolved();
  EXPECT_EQ(r.layers, 3);
  EXPECT_EQ(r.heads, 12);
  EXPECT_EQ(r.width, 768);
  EXPECT_EQ(r.context, 1024);
  EXPECT_EQ(r.vocabulary, 1000);
  EXPECT_EQ(r.hidden(), 3072);
  c.vocabulary = 0;
  EXPECT_EQ(c.resolved().vocabulary, 50257);
}

TEST(GptConfig, PresetsHaveTheParametersTheirNamesSay) {
  const auto millions = [](const char* preset, std::int64_t vocabulary) {
    GptConfig c;
    c.preset = preset;
    c.vocabulary = vocabulary;
    double total = 0;
    const auto model = make_gpt(c);
    for (const core::Parameter* p : model->parameters()) total += double(p->size()) * 1e-6;
    return total;
  };
  EXPECT_NEAR(millions("gpt-1m", 256), 1, 0.2);
  EXPECT_NEAR(millions("gpt-10m", 256), 10, 1);
  EXPECT_NEAR(millions("gpt-25m", 256), 25, 2);
  EXPECT_NEAR(millions("gpt2-124m", 0), 124.44, 0.01);
  EXPECT_NEAR(millions("gpt2-355m", 0), 354.8, 0.1);
  EXPECT_NEAR(millions("gpt2-774m", 0), 774.0, 0.1);
  EXPECT_NEAR(millions("gpt2-1558m", 0), 1557.6, 0.1);
}

TEST(GptConfig, RefusalsNameTheKeyAndWhatIsValid) {
  EXPECT_THAT(refusal([](GptConfig& c) { c.width = 9; }), HasSubstr("model.width: 9 is not a multiple of model.heads, 2"));
  EXPECT_THAT(refusal([](GptConfig& c) {
                c.width = 6;
                c.positions = "rotary";
              }),
              HasSubstr("rotary needs an even head size"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.layers = 0; }), HasSubstr("model.layers is not given"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.layers = 0; }), HasSubstr("gpt2-124m"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.heads = -1; }), HasSubstr("model.heads: -1 is negative"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.preset = "gpt2"; }), HasSubstr("model.preset: 'gpt2' is not known"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.activation = "silu"; }), HasSubstr("gelu, relu2, swiglu"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.norm = "batch"; }), HasSubstr("layer_norm, rms_norm"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.positions = "alibi"; }), HasSubstr("learned, rotary"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.dropout = 1; }), HasSubstr("model.dropout"));
  EXPECT_THAT(refusal([](GptConfig& c) { c.mlp_ratio = 0; }), HasSubstr("model.mlp_ratio"));
  EXPECT_EQ(refusal([](GptConfig&) {}), "accepted");
}

TEST(GptConfig, UnknownVocabularyIsRefusedOnlyWhenTheModelIsMade) {
  GptConfig c = tiny_config();
  c.vocabulary = 0;
  EXPECT_EQ(c.resolved().vocabulary, 0);
  EXPECT_THROW(make_gpt(c), core::Error);
}

TEST(GptConfig, ReadsFromYamlAndBack) {
  GptConfig c;
  const auto describe = [](GptConfig& config) { return [&config](core::Fields& f) { config.describe(f); }; };
  core::read_config_text("preset: gpt-10m\nlayers: 2\nactivation: swiglu\nmlp_ratio: 2.6667\n", "test.yaml", {},
                         describe(c));
  EXPECT_EQ(c.preset, "gpt-10m");
  EXPECT_EQ(c.layers, 2);
  EXPECT_EQ(c.resolved().hidden(), 1024);
  GptConfig again;
  const GptConfig resolved = c.resolved();
  GptConfig written = resolved;
  core::read_config_text(core::write_config(describe(written)), "again.yaml", {}, describe(again));
  EXPECT_EQ(again.width, 384);
  EXPECT_EQ(again.activation, "swiglu");
  EXPECT_THROW(core::read_config_text("preset: gpt-9m\n", "test.yaml", {}, describe(c)), core::Error);
}
