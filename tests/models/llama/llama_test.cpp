#include "models/llama/llama.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/models/llama/tiny_llama.h"

namespace muonp::models::testing {
namespace {

using List = core::WeightReads::List;
using ::testing::HasSubstr;

std::vector<ModelConfig> variants() {
  std::vector<ModelConfig> all;
  for (ModelConfig c : all_families())
    for (const char* recompute : {"none", "blocks"}) {
      c.llama.recompute = c.gpt.recompute = recompute;
      c.llama.head_chunk_rows = c.gpt.head_chunk_rows = recompute == std::string("none") ? 0 : 3;
      all.push_back(c);
    }
  return all;
}

std::vector<std::vector<float>> gradients(const Instance& of) {
  std::vector<std::vector<float>> all;
  for (const core::Parameter* p : of.model->parameters()) all.push_back(test::values_of(p->gradient));
  return all;
}

std::vector<std::string> names(const ModelConfig& config) {
  std::vector<std::string> all;
  const auto model = make_model(config);
  for (const core::Parameter* p : model->parameters())
    if (p->name.find(".1.") == std::string::npos)  // all layers are alike
      all.push_back(fmt::format("{} {} {}", p->name, core::to_string(p->shape), core::name_of(p->kind)));
  return all;
}

struct Watch : core::WeightSource {
  List seen;
  void acquire(std::span<core::Parameter* const> parameters) override {
    seen.emplace_back(parameters.begin(), parameters.end());
  }
};
List without_repetition(List reads) {  // a head by chunks reads its weight often
  reads.erase(std::unique(reads.begin(), reads.end()), reads.end());
  return reads;
}

}  // namespace

TEST(Llama, ParametersHaveHuggingFacesNames) {
  EXPECT_THAT(
      names(config_of("qwen3")),
      ::testing::UnorderedElementsAre(
          "model.embed_tokens.weight [13, 16] embedding", "model.layers.0.input_layernorm.weight [16] vector",
          "model.layers.0.self_attn.q_proj.weight [16, 16] matrix", "model.layers.0.self_attn.k_proj.weight [8, 16] matrix",
          "model.layers.0.self_attn.v_proj.weight [8, 16] matrix", "model.layers.0.self_attn.q_norm.weight [4] vector",
          "model.layers.0.self_attn.k_norm.weight [4] vector", "model.layers.0.self_attn.o_proj.weight [16, 16] matrix",
          "model.layers.0.post_attention_layernorm.weight [16] vector",
          "model.layers.0.mlp.gate_proj.weight [24, 16] matrix", "model.layers.0.mlp.up_proj.weight [24, 16] matrix",
          "model.layers.0.mlp.down_proj.weight [16, 24] matrix", "model.norm.weight [16] vector"));
  ModelConfig untied = config_of("qwen2");
  untied.llama.tied_head = false;
  EXPECT_THAT(names(untied),
              ::testing::IsSupersetOf({"lm_head.weight [13, 16] head", "model.layers.0.self_attn.q_proj.bias [16] vector",
                                       "model.layers.0.self_attn.k_proj.bias [8] vector",
                                       "model.layers.0.self_attn.v_proj.bias [8] vector"}));
  EXPECT_THAT(names(config_of("gpt2")),
              ::testing::IsSupersetOf(
                  {"transformer.wte.weight [11, 8] embedding", "transformer.wpe.weight [12, 8] embedding",
                   "transformer.h.0.ln_1.weight [8] vector", "transformer.h.0.attn.c_attn.weight [24, 8] matrix",
                   "transformer.h.0.attn.c_attn.bias [24] vector", "transformer.h.0.attn.c_proj.weight [8, 8] matrix",
                   "transformer.h.0.mlp.c_fc.weight [16, 8] matrix", "transformer.h.0.mlp.c_proj.bias [8] vector",
                   "transformer.ln_f.bias [8] vector"}));
}

// Who gathers weights ahead of use relies on it (dist/plan/gather_plan.h).
TEST(Llama, ReadsWeightsInTheOrderItTells) {
  for (const ModelConfig& c : variants()) {
    Instance of(make_model(c));
    const TokenBatch batch{of.ids(random_ids(10, 11, 1), 2), of.ids(random_ids(10, 11, 2), 2)};
    const core::WeightReads told = of.model->weight_reads();
    std::int64_t forward = 0, backward = 0;
    for (const core::PassStretch& stretch : of.model->stretches({2, 5, core::Dtype::float32, of.device->kind()})) {
      forward += stretch.forward;
      backward += stretch.backward;
    }
    EXPECT_EQ(forward, std::ssize(told.forward));
    EXPECT_EQ(backward, std::ssize(told.backward));
    Watch watch;
    core::Tape tape(*of.device, true, &watch);
    const core::Variable loss = of.model->loss(tape, batch, {});
    EXPECT_EQ(without_repetition(watch.seen), told.forward) << c.family;
    tape.backward(loss, 1, of.model->parameters(), of.plain);
    List all = told.forward;
    all.insert(all.end(), told.backward.begin(), told.backward.end());
    EXPECT_EQ(without_repetition(watch.seen), without_repetition(all)) << c.family;

    KeyValueCache cache = of.model->make_cache(*of.device, 2, 6, core::Dtype::float32);
    const std::int64_t counts[] = {5, 5};
    Watch logits, cached, ends;
    core::Tape whole(*of.device, false, &logits), behind(*of.device, false, &cached), last(*of.device, false, &ends);
    of.model->logits(whole, batch.inputs);
    of.model->next_logits(behind, batch.inputs, counts, cache);
    of.model->next_token_logits(last, batch.inputs);
    for (const Watch* w : {&logits, &cached, &ends}) EXPECT_EQ(w->seen, told.forward) << c.family;
  }
}

TEST(Llama, RecomputedBlocksGiveTheSameBits) {
  for (ModelConfig c : all_families()) {
    std::vector<float> losses;
    std::vector<std::vector<std::vector<float>>> all;
    for (const char* recompute : {"none", "blocks"}) {
      c.llama.recompute = c.gpt.recompute = recompute;
      Instance of(make_model(c));
      losses.push_back(of.step({of.ids(random_ids(10, 11, 1), 2), of.ids(random_ids(10, 11, 2), 2)}));
      all.push_back(gradients(of));
    }
    EXPECT_EQ(losses[0], losses[1]) << c.family;
    EXPECT_EQ(all[0], all[1]) << c.family;
  }
}

// Three documents in one sequence: loss and gradients are those of three sequences.
TEST(Llama, PackedDocumentsAreAsApart) {
  for (const ModelConfig& c : all_families()) {
    const std::vector<std::int64_t> lengths = {5, 1, 6};
    Instance packed(make_model(c)), apart(make_model(c));
    const std::vector<std::int32_t> inputs = random_ids(12, 11, 1), targets = random_ids(12, 11, 2);
    std::vector<std::int32_t> begins;
    for (const std::int64_t length : lengths)
      begins.insert(begins.end(), core::at(length), static_cast<std::int32_t>(begins.size()));
    const float loss = packed.step({packed.ids(inputs, 1), packed.ids(targets, 1), packed.ids(begins, 1)});
    double sum = 0;
    std::ptrdiff_t first = 0;
    for (const std::int64_t length : lengths) {
      const auto part = [&](const std::vector<std::int32_t>& all) {
        return apart.ids({all.begin() + first, all.begin() + first + length}, 1);
      };
      const double share = static_cast<double>(length) / 12;
      sum += share * apart.step({part(inputs), part(targets)}, {}, static_cast<float>(share));
      first += length;
    }
    EXPECT_NEAR(loss, sum, 1e-5 * sum) << c.family;
    const auto found = gradients(packed), expected = gradients(apart);
    for (std::size_t p = 0; p < found.size(); ++p)
      for (std::size_t i = 0; i < found[p].size(); ++i)
        ASSERT_NEAR(found[p][i], expected[p][i], 1e-6 + 1e-4 * std::abs(expected[p][i]))
            << c.family << " " << packed.model->parameters()[p]->name;
  }
}

TEST(Llama, CountsWorkByTheUsualConvention) {
  LlamaConfig c;
  c.preset = "smollm2-135m";
  c = c.resolved();
  const auto model = make_llama(c);
  EXPECT_EQ(model->description(), "Llama, 30 layers, 576 wide, 9 heads on 3 of keys, 134.5 M parameters");
  // 6 a token and weight but those of the embedding, which are counted as the head's; 12·layers·width·time for attention.
  std::int64_t matrices = 0;
  for (const core::Parameter* p : model->parameters())
    if (p->shape.size() == 2) matrices += p->size();
  EXPECT_DOUBLE_EQ(model->step_flops(2, 128), 256 * (6.0 * static_cast<double>(matrices) + 12.0 * 30 * 576 * 128));
  EXPECT_DOUBLE_EQ(model->skipped_flops(2, 128), 2 * (128.0 * 127 / 2) * 12.0 * 30 * 576);
  EXPECT_EQ(model->recomputed_flops(2, 128), 0);
  c.window = 16;  // of 128 queries, 112 see 16 keys, the others 1 to 15
  EXPECT_DOUBLE_EQ(llama_skipped_flops(c, 1, 128), (128.0 * 128 - 112 * 16 - 16 * 17 / 2) * 12.0 * 30 * 576);
  c.recompute = "blocks";
  EXPECT_DOUBLE_EQ(3 * llama_recomputed_flops(c, 2, 128), llama_step_flops(c, 2, 128) - 6.0 * 256 * 49152 * 576);
}

TEST(Llama, SequencesBeyondTheContextAreRefused) {
  Instance of(make_model(config_of("llama")));
  const core::Tensor ids = of.ids(random_ids(13, 11, 1), 1);
  core::Tape tape(*of.device, true);
  try {
    of.model->loss(tape, {ids, ids}, {});
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("13 tokens is longer than the model's context of 12"));
  }
}

}  // namespace muonp::models::testing
