#include <gtest/gtest.h>

#include "tests/models/llama/tiny_llama.h"

namespace muonp::models::testing {
namespace {

test::TestDevice cpu() { return test::make_cpu_test_device(2, core::Bfloat16::emulated); }

std::int64_t activation_peak(Instance& of, std::int64_t batch, std::int64_t time) {
  const core::Tensor ids = of.ids(random_ids(batch * time, of.model->vocabulary(), 1), batch);
  of.device->allocator()->reset_peak();
  of.step({ids, ids});
  EXPECT_EQ(of.device->allocator()->use().of(core::Category::activations), 0);
  const core::MemoryUse use = of.device->allocator()->use();
  return use.peak_of(core::Category::activations) + use.of(core::Category::other);  // angles of rotary positions
}

LlamaConfig config(std::int64_t vocabulary, std::int64_t time) {
  LlamaConfig c;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.width = 32;
  c.hidden = 88;
  c.context = time;
  c.vocabulary = vocabulary;
  return c;
}

void expect_formula(const ModelConfig& c, std::int64_t time, core::Dtype dtype) {
  Instance of(make_model(c), dtype, cpu());
  const double peak = double(activation_peak(of, 2, time));
  EXPECT_NEAR(double(of.model->activation_bytes({2, time, dtype, of.device->kind()})), peak, 0.02 * peak)
      << c.family << ", " << core::name_of(dtype) << ", vocabulary " << c.vocabulary() << ", time " << time << ", hidden "
      << c.llama.hidden << ", window " << c.llama.window << ", recompute " << c.llama.recompute;
}

}  // namespace

// Whatever is largest - logits, the MLP, the attention - the formula is within 2 % of what the allocator counts.
TEST(LlamaMemory, FormulaMatchesTheAllocator) {
  for (const core::Dtype dtype : {core::Dtype::float32, core::Dtype::bfloat16})
    for (const char* family : {"llama", "mistral", "qwen2", "qwen3"})
      for (const std::int64_t vocabulary : {2, 3000})
        for (const std::int64_t time : {16, 150})
          for (const std::int64_t hidden : {16, 88})
            for (const char* recompute : {"none", "blocks"}) {
              LlamaConfig c = config(vocabulary, time);
              c.hidden = hidden;
              c.recompute = recompute;
              if (family == std::string("mistral")) c.window = 20;
              expect_formula(config_of(family, c), time, dtype);
            }
}

TEST(LlamaMemory, HeadChunksSaveLogits) {
  LlamaConfig c = config(3000, 64);
  c.layers = 1;
  c.head_chunk_rows = 16;
  expect_formula(config_of("llama", c), 64, core::Dtype::float32);
}

TEST(LlamaMemory, StretchedSequencesHaveATableOfTheirOwn) {
  LlamaConfig c = config(50, 64);
  c.rope.kind = "dynamic";
  c.rope.factor = 4;
  c.rope.original_context = 16;
  for (const std::int64_t time : {8, 64}) expect_formula(config_of("llama", c), time, core::Dtype::float32);
}

}  // namespace muonp::models::testing
