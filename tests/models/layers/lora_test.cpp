// Adapters in models: which layers have one, what is trained, and what they compute.
#include <gmock/gmock.h>

#include <cmath>

#include "models/layers/lora.h"
#include "tests/models/llama/tiny_llama.h"

namespace muonp::models::testing {
namespace {

using core::ParameterKind;
using ::testing::HasSubstr;

ModelConfig adapted(const std::string& family, std::vector<std::string> modules, double dropout = 0) {
  ModelConfig c = config_of(family);
  c.lora.rank = 3;
  c.lora.alpha = 6;
  c.lora.dropout = dropout;
  c.lora.modules = std::move(modules);
  return c;
}

std::vector<std::string> trained_names(const ModelConfig& c) {
  std::vector<std::string> names;
  const auto model = make_model(c);
  for (const core::Parameter* p : core::trained_of(model->parameters())) names.push_back(p->name);
  return names;
}

std::string message_of(const ModelConfig& c) {
  try {
    make_model(c);
  } catch (const core::Error& error) {
    return error.what();
  }
  return "";
}

core::Parameter& named(LanguageModel& model, const std::string& name) {
  for (core::Parameter* p : model.parameters())
    if (p->name == name) return *p;
  throw core::InternalError(name);
}

std::vector<float> logits_of(Instance& of) {
  core::Tape tape(*of.device, false);
  return test::values_of(of.model->logits(tape, of.ids(random_ids(10, of.model->vocabulary(), 4), 2)));
}

void set(core::Parameter& p, const std::vector<float>& values) { test::set_values(p.value, values); }

}  // namespace

TEST(Lora, ChosenLayersHaveFactorsAndAllElseIsFrozen) {
  ModelConfig c = adapted("llama", {"q_proj", "layers.1.mlp.*"});
  EXPECT_THAT(trained_names(c),
              ::testing::ElementsAre(
                  "model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj.lora_B.weight",
                  "model.layers.1.self_attn.q_proj.lora_A.weight", "model.layers.1.self_attn.q_proj.lora_B.weight",
                  "model.layers.1.mlp.gate_proj.lora_A.weight", "model.layers.1.mlp.gate_proj.lora_B.weight",
                  "model.layers.1.mlp.up_proj.lora_A.weight", "model.layers.1.mlp.up_proj.lora_B.weight",
                  "model.layers.1.mlp.down_proj.lora_A.weight", "model.layers.1.mlp.down_proj.lora_B.weight"));
  const auto model = make_model(c);
  const core::Parameter &a = named(*model, "model.layers.0.self_attn.q_proj.lora_A.weight"), &b = *a.partner;
  EXPECT_EQ(a.shape, (core::Shape{3, 16}));
  EXPECT_EQ(b.shape, (core::Shape{16, 3}));
  EXPECT_EQ(a.kind, ParameterKind::lora_a);
  EXPECT_EQ(b.kind, ParameterKind::lora_b);
  EXPECT_EQ(b.partner, &a);
  EXPECT_EQ(a.product_scale, 2);
  c.lora.rank_stabilized = true;
  EXPECT_NEAR(c.lora.scale(), 6 / std::sqrt(3.0), 1e-12);
  EXPECT_THAT(model->description(), HasSubstr("of which LoRA of rank 3 trains"));
}

TEST(Lora, EachFamilyHasItsUsualModules) {
  EXPECT_THAT(trained_names(adapted("gpt2", {})).front(), "transformer.h.0.attn.c_attn.lora_A.weight");
  EXPECT_THAT(trained_names(adapted("gpt", {})).front(), "blocks.0.attention.qkv.lora_A.weight");
  EXPECT_EQ(trained_names(adapted("qwen2", {})).size(), 8u);
  EXPECT_EQ(trained_names(config_of("llama")).size(), make_model(config_of("llama"))->parameters().size());
}

TEST(Lora, APatternThatMatchesNothingNamesTheNearest) {
  EXPECT_THAT(message_of(adapted("llama", {"q_proj", "qproj"})),
              ::testing::AllOf(HasSubstr("model.lora.modules: qproj matches no linear layer"),
                               HasSubstr("model.layers.0.self_attn.q_proj")));
  EXPECT_THAT(message_of(adapted("llama", {"lm_head"})), HasSubstr("lm_head matches no linear layer"));
  ModelConfig none = config_of("llama");
  none.lora.modules = {"q_proj"};
  EXPECT_THAT(message_of(none), HasSubstr("model.lora.rank is 0"));
}

TEST(Lora, NewAdaptersChangeNothing) {
  for (const char* family : {"gpt", "gpt2", "llama", "qwen2"}) {
    Instance base(make_model(config_of(family))), with(make_model(adapted(family, {"*"})));
    EXPECT_EQ(logits_of(with), logits_of(base)) << family;
  }
}

// W + scale·B·A in the place of W, within the products that are fused too.
TEST(Lora, ComputeWhatMergedWeightsDo) {
  for (const char* family : {"gpt2", "llama", "qwen3"}) {
    Instance with(make_model(adapted(family, {"*"}))), merged(make_model(config_of(family)));
    for (core::Parameter* a : with.model->parameters()) {
      if (a->kind != ParameterKind::lora_a) continue;
      core::Parameter& b = *a->partner;
      std::vector<float> of_b(core::at(b.size()));
      for (std::size_t i = 0; i < of_b.size(); ++i) of_b[i] = 0.2f * core::normal(8, core::at(b.size()), i);
      set(b, of_b);
      const std::string path = a->name.substr(0, a->name.size() - std::string(kLoraA).size());
      core::Parameter& w = named(*merged.model, path + ".weight");
      std::vector<float> sum = test::values_of(w.value);
      const std::vector<float> of_a = test::values_of(a->value);
      const std::int64_t rank = a->shape[0], inputs = a->shape[1];
      for (std::int64_t o = 0; o < w.shape[0]; ++o)
        for (std::int64_t i = 0; i < inputs; ++i)
          for (std::int64_t k = 0; k < rank; ++k)
            sum[core::at(o * inputs + i)] += 2 * of_b[core::at(o * rank + k)] * of_a[core::at(k * inputs + i)];
      set(w, sum);
    }
    const std::vector<float> got = logits_of(with), expected = logits_of(merged);
    double largest = 0;
    for (const float x : expected) largest = std::max(largest, std::abs(double{x}));
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-5 * largest) << family;
  }
}

// The same masks in forward and backward, whatever the ranks: another row of the batch is another mask.
TEST(Lora, DropoutIsOfTheGlobalRowAndOfTrainingAlone) {
  Instance of(make_model(adapted("llama", {"*"}, 0.5)));
  for (core::Parameter* p : of.model->parameters())
    if (p->kind == ParameterKind::lora_b) set(*p, std::vector<float>(core::at(p->size()), 0.3f));
  const core::Tensor ids = of.ids(random_ids(10, of.model->vocabulary(), 4), 2);
  const auto loss = [&](bool recording, DropoutKey key) {
    core::Tape tape(*of.device, recording);
    return test::value_of(of.model->loss(tape, {ids, ids}, key)->value);
  };
  EXPECT_EQ(loss(true, {1, 2, 3}), loss(true, {1, 2, 3}));
  EXPECT_NE(loss(true, {1, 2, 3}), loss(true, {1, 2, 5}));
  EXPECT_NE(loss(true, {1, 2, 3}), loss(true, {1, 3, 3}));
  EXPECT_EQ(loss(false, {1, 2, 3}), loss(false, {1, 2, 5}));
}

// Against central differences of the loss, through norms, attention and frozen weights.
TEST(Lora, GradientsOfFactorsAreThoseOfDifferences) {
  for (const char* family : {"gpt2", "llama"}) {
    Instance of(make_model(adapted(family, {"*"}, 0.25)));
    // Embeddings as large as trained ones: a norm of nearly nothing is no straight line over the differences.
    for (core::Parameter* p : of.model->parameters())
      if (p->kind == ParameterKind::lora_b || p->kind == ParameterKind::embedding) {
        std::vector<float> values(core::at(p->size()));
        const float deviation = p->kind == ParameterKind::embedding ? 1.0f : 0.2f;
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = deviation * core::normal(8, core::at(p->size()), i);
        set(*p, values);
      }
    const core::Tensor ids = of.ids(random_ids(10, of.model->vocabulary(), 4), 2);
    const TokenBatch batch{ids, of.ids(random_ids(10, of.model->vocabulary(), 5), 2)};
    of.step(batch, {1, 2, 0});
    EXPECT_EQ(of.plain.completed().size(), core::trained_of(of.model->parameters()).size());
    const auto loss = [&] {
      core::Tape tape(*of.device, true);
      return double{test::value_of(of.model->loss(tape, batch, {1, 2, 0})->value)};
    };
    for (core::Parameter* p : of.model->parameters()) {
      if (!p->trained) {
        EXPECT_FALSE(p->gradient) << p->name;
        continue;
      }
      const std::vector<float> gradient = test::values_of(p->gradient), values = test::values_of(p->value);
      // Along the gradient itself.
      double squares = 0;
      for (const float g : gradient) squares += double{g} * g;
      const double h = 0.02 / std::sqrt(squares);
      const auto moved = [&](double by) {
        std::vector<float> x = values;
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += static_cast<float>(by * gradient[i]);
        set(*p, x);
        return loss();
      };
      const double slope = (moved(h) - moved(-h)) / (2 * h);
      set(*p, values);
      EXPECT_NEAR(slope, squares, 0.02 * squares + 1e-6) << p->name;
    }
  }
}

TEST(Lora, TheMemoryFormulaCountsWhatAdaptersTake) {
  for (const char* family : {"gpt2", "llama"})
    for (const double dropout : {0.0, 0.1})
      for (const char* recompute : {"none", "blocks"}) {
        ModelConfig c = adapted(family, {"*"}, dropout);
        c.llama.width = 32;
        c.llama.hidden = 88;
        c.llama.context = c.gpt.context = 64;
        c.gpt.width = 32;
        c.llama.recompute = c.gpt.recompute = recompute;
        c.lora.rank = 8;
        Instance of(make_model(c), core::Dtype::float32, test::make_cpu_test_device(2));
        const core::Tensor ids = of.ids(random_ids(128, of.model->vocabulary(), 1), 2);
        of.step({ids, ids});
        of.device->allocator()->reset_peak();
        of.step({ids, ids});
        const core::MemoryUse use = of.device->allocator()->use();
        const double peak = double(use.peak_of(core::Category::activations) + use.of(core::Category::other));
        const auto formula = double(of.model->activation_bytes({2, 64, core::Dtype::float32, of.device->kind()}));
        // It puts the largest adapter beside the largest gradients. With dropout those are not of one layer: the adapter of
        // the layer that reads the hidden units holds two of its inputs while one gradient of them is gone.
        const double hidden = 2 * 64 * 4.0 * (std::string(family) == "gpt2" ? 4 * 32 : 88);
        EXPECT_GE(formula, 0.98 * peak) << family << ", dropout " << dropout << ", recompute " << recompute;
        EXPECT_LE(formula, 1.02 * peak + (dropout > 0 ? hidden : 0))
            << family << ", dropout " << dropout << ", recompute " << recompute;
      }
}

TEST(Lora, FrozenWeightsTakeAThirdLessWork) {
  const auto base = make_model(config_of("llama")), with = make_model(adapted("llama", {"q_proj"}));
  std::int64_t frozen = 13 * 16, trained = 0;  // the tied head
  for (const core::Parameter* p : with->parameters()) {
    if (p->trained) trained += p->size();
    if (!p->trained && p->kind == ParameterKind::matrix) frozen += p->size();
  }
  EXPECT_EQ(with->step_flops(2, 5), base->step_flops(2, 5) + 10.0 * static_cast<double>(6 * trained - 2 * frozen));
}

}  // namespace muonp::models::testing
