#include "models/registry.h"

#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/models/llama/tiny_llama.h"

namespace muonp::models::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ModelConfig read(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  ModelConfig c;
  core::read_config_text(yaml, "test.yaml", overrides, [&](core::Fields& f) { c.describe(f); });
  return c;
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const core::Error& error) {
    return error.what();
  }
  return "accepted";
}
std::string refusal(const std::string& yaml) {
  return refusal([&] { read(yaml).resolved(); });
}

}  // namespace

TEST(ModelConfig, WithoutAFamilyItIsTheGptOfOldFiles) {
  const ModelConfig c = read("preset: gpt-1m\nvocabulary: 300\nactivation: swiglu").resolved();
  EXPECT_EQ(c.family, "gpt");
  EXPECT_EQ(c.layers(), 4);
  EXPECT_EQ(c.vocabulary(), 300);
  EXPECT_EQ(make_model(c)->parameters()[0]->name, "token_embedding.weight");
}

TEST(ModelConfig, EveryFamilyReadsBackWhatItWrites) {
  for (ModelConfig c : all_families()) {
    c.llama.rope.kind = "yarn";
    c.llama.rope.factor = 3;
    ModelConfig resolved = c.resolved();
    const std::string yaml = core::write_config([&](core::Fields& f) { resolved.describe(f); });
    ModelConfig again = read(yaml);
    EXPECT_EQ(core::write_config([&](core::Fields& f) { again.describe(f); }), yaml);
    EXPECT_EQ(make_model(again)->description(), make_model(c)->description());
  }
}

TEST(ModelConfig, TheFamilyMayComeFromAnOverride) {
  const ModelConfig c =
      read("preset: none", {"family=qwen3", "layers=2", "heads=4", "width=16", "context=8", "rope.theta=1e6"});
  EXPECT_EQ(c.resolved().llama.rope.theta, 1e6);
  EXPECT_TRUE(c.resolved().llama.qk_norm);
}

TEST(ModelConfig, KeysOfOtherFamiliesAreNamedAsSuch) {
  EXPECT_THAT(refusal("rope: {theta: 500000}"),
              HasSubstr("test.yaml:1: rope: a key that is there with family: llama, mistral, qwen2 or qwen3 only"));
  EXPECT_THAT(refusal("family: llama\npositions: rotary"),
              HasSubstr("test.yaml:2: positions: a key that is there with family: gpt only"));
  EXPECT_THAT(refusal("family: llama\nmlp_ratio: 4"), HasSubstr("with family: gpt or gpt2 only"));
  EXPECT_THAT(refusal("family: gpt2\nnorm: rms_norm"), HasSubstr("with family: gpt only"));
  EXPECT_THAT(refusal("family: llama\nwindow: 8"), HasSubstr("with family: mistral, qwen2 or qwen3 only"));
  EXPECT_THAT(refusal("family: llama\nrope: {factor: 2}"), HasSubstr("rope.factor: a key that is there with kind: linear"));
  EXPECT_THAT(refusal("family: bert"), AllOf(HasSubstr("family: 'bert' is not a valid value"), HasSubstr("qwen3")));
  EXPECT_THAT(refusal("family: llama\nhaeds: 4"), HasSubstr("did you mean"));
}

TEST(ModelConfig, SizesFollowFromPresetsAndFromOthers) {
  const LlamaConfig smol = read("family: llama\npreset: smollm2-135m").resolved().llama;
  EXPECT_EQ(smol.kv_heads, 3);
  EXPECT_EQ(smol.head_size, 64);
  const LlamaConfig own = read("family: llama\nlayers: 1\nheads: 4\nwidth: 96\ncontext: 8").resolved().llama;
  EXPECT_EQ(own.kv_heads, 4);
  EXPECT_EQ(own.head_size, 24);
  EXPECT_EQ(own.hidden, 256);
}

TEST(ModelConfig, WhatDoesNotFitIsRefusedByItsKey) {
  const std::string base = "family: llama\nlayers: 1\nwidth: 96\ncontext: 8\n";
  EXPECT_THAT(refusal(base), HasSubstr("model.heads is not given"));
  EXPECT_THAT(refusal(base + "heads: 5"),
              HasSubstr("model.width: 96 is not a multiple of model.heads, 5; give model.head_size"));
  EXPECT_THAT(refusal(base + "heads: 5\nhead_size: 7"), HasSubstr("model.head_size: 7 is odd"));
  EXPECT_THAT(refusal(base + "heads: 4\nkv_heads: 3"), HasSubstr("model.kv_heads: 3 does not divide model.heads, 4"));
  EXPECT_THAT(refusal(base + "heads: 4\nrope: {kind: llama3, low_frequency_factor: 4}"),
              HasSubstr("model.rope.low_frequency_factor: 4 is not between 0 and high_frequency_factor, 4"));
  EXPECT_THAT(refusal(base + "heads: 4\nrope: {kind: yarn, beta_slow: 40}"), HasSubstr("model.rope.beta_slow"));
  EXPECT_THAT(refusal([&] { make_model(read(base + "heads: 4")); }), HasSubstr("model.vocabulary is not given"));
}

// Where a model is made for a device, which trainer, planner, evaluation and generation do.
TEST(ModelConfig, WhatAGpuCannotComputeIsRefusedThere) {
  const ModelConfig gpt = read("layers: 1\nheads: 1\nwidth: 256\ncontext: 8\nvocabulary: 16"),
                    llama =
                        read("family: llama\nlayers: 1\nheads: 1\nhead_size: 130\nwidth: 96\ncontext: 8\nvocabulary: 16");
  EXPECT_THAT(refusal([&] { make_model(gpt, core::DeviceKind::cuda); }),
              AllOf(HasSubstr("heads of up to 128, not of 256; choose model.heads"), HasSubstr("device: cpu")));
  EXPECT_THAT(refusal([&] { make_model(llama, core::DeviceKind::cuda); }), HasSubstr("not of 130"));
  for (const ModelConfig& c : {gpt, llama}) EXPECT_TRUE(make_model(c, core::DeviceKind::cpu));
}

TEST(ModelConfig, BesideAFolderOnlyKeysOfHowItRunsMayDiffer) {
  ModelConfig folder = config_of("qwen2");
  folder.llama.rope.kind = "yarn";
  folder.llama.rope.factor = 2;
  const auto with = [&](const std::string& yaml) { return read("from: there\n" + yaml).with_folder(folder); };
  const ModelConfig c = with("recompute: blocks\nhead_chunk_rows: 7\ncontext: 6");
  EXPECT_EQ(c.family, "qwen2");
  EXPECT_EQ(c.from, "there");
  EXPECT_EQ(c.llama.recompute, "blocks");
  EXPECT_EQ(c.llama.head_chunk_rows, 7);
  EXPECT_EQ(c.context(), 6);
  EXPECT_EQ(c.llama.rope.original_context, 12);  // angles are those of the folder
  EXPECT_EQ(c.layers(), 2);
  EXPECT_EQ(with("family: qwen2\nheads: 4").llama.heads, 4);
  EXPECT_THAT(refusal([&] { with("heads: 8"); }), HasSubstr("model.heads: 8 here, 4 in there"));
  EXPECT_THAT(refusal([&] { with("family: llama"); }), HasSubstr("model.family: llama here, qwen2 in there"));
  EXPECT_THAT(refusal([&] { with("activation: swiglu"); }),
              HasSubstr("model.activation: swiglu is given, but there is of the family qwen2, which has no such key"));
  EXPECT_THAT(refusal([&] { with("dropout: 0.1"); }), HasSubstr("model.dropout"));
  EXPECT_THAT(refusal([&] { with("context: 13"); }), HasSubstr("model.context: 13 is longer than the 12 of there"));
  folder.llama.rope.kind = "dynamic";
  EXPECT_EQ(with("context: 24").llama.rope.original_context, 12);
  EXPECT_THAT(refusal([&] { with("context: 25"); }), HasSubstr("model.context: 25 is longer than the 24 of there"));
  folder.llama.rope.factor = 1e300;
  EXPECT_EQ(with("context: 25").llama.context, 25);
  folder.llama.rope.kind = "yarn";
  folder.llama.rope.factor = 2;
  // What a run wrote of itself says it all again.
  const std::string yaml = core::write_config([written = c](core::Fields& f) mutable { written.describe(f); });
  EXPECT_EQ(make_model(read(yaml).with_folder(folder))->description(), make_model(c)->description());

  const ModelConfig gpt2 = config_of("gpt2");
  EXPECT_EQ(read("from: there\ndropout: 0.25").with_folder(gpt2).gpt.dropout, 0.25);
  EXPECT_THAT(refusal([&] { read("from: there\ncontext: 6").with_folder(gpt2); }), HasSubstr("model.context: 6 here, 12"));
}

}  // namespace muonp::models::testing
