#include <gtest/gtest.h>

#include "tests/models/gpt/tiny_gpt.h"

using namespace muonp;
using namespace muonp::models;
using namespace muonp::models::testing;

namespace {

std::int64_t activation_peak(Instance& gpt, std::int64_t batch, std::int64_t time, bool documents = false) {
  const core::Tensor ids = gpt.ids(random_ids(batch * time, gpt.model->vocabulary(), 1), batch);
  TokenBatch tokens{ids, ids};
  if (documents) tokens.begins = gpt.ids(std::vector<std::int32_t>(core::at(batch * time)), batch);
  const std::int64_t before = gpt.device->allocator()->use().of(core::Category::other);  // of a GPU its queue's workspace
  gpt.device->allocator()->reset_peak();
  gpt.step(tokens);
  EXPECT_EQ(gpt.device->allocator()->use().of(core::Category::activations), 0);
  const core::MemoryUse use = gpt.device->allocator()->use();
  return use.peak_of(core::Category::activations) + use.of(core::Category::other) - before;  // angles of rotary positions
}

test::TestDevice cpu() { return test::make_cpu_test_device(2, core::Bfloat16::emulated); }

GptConfig config(std::int64_t vocabulary, std::int64_t layers, std::int64_t time) {
  GptConfig c;
  c.layers = layers;
  c.heads = 4;
  c.width = 32;
  c.context = time;
  c.vocabulary = vocabulary;
  return c;
}

}  // namespace

// Whatever is largest — logits, the MLP, the attention — the formula is within 5 % of what the allocator
// counts.
TEST(GptMemory, FormulaMatchesTheAllocator) {
  for (const core::Dtype dtype : {core::Dtype::float32, core::Dtype::bfloat16})
    for (const std::int64_t vocabulary : {2, 3000})
      for (const char* activation : {"gelu", "swiglu"})
        for (const char* positions : {"learned", "rotary"})
          for (const std::int64_t time : {16, 150})
            for (const double dropout : {0.0, 0.1}) {
              GptConfig c = config(vocabulary, 3, time);
              c.activation = activation;
              c.positions = positions;
              c.dropout = dropout;
              Instance gpt(c, dtype, cpu());
              const double peak = double(activation_peak(gpt, 2, time));
              EXPECT_NEAR(double(gpt.model->activation_bytes({2, time, dtype, gpt.device->kind()})), peak, 0.05 * peak)
                  << core::name_of(dtype) << ", vocabulary " << vocabulary << ", " << activation << ", " << positions
                  << ", time " << time << ", dropout " << dropout;
            }
}

TEST(GptMemory, AllLayersAndPassesShareOneTableOfAngles) {
  GptConfig c = config(50, 3, 16);
  c.positions = "rotary";
  Instance gpt(c, core::Dtype::float32, cpu());
  for (const std::int64_t time : {16, 7}) {
    activation_peak(gpt, 2, time);
    EXPECT_EQ(gpt.device->allocator()->use().peak_of(core::Category::other), 16 * 8 * 4);
  }
}

TEST(GptMemory, RecomputedBlocksKeepTheirInputsOnly) {
  for (const std::int64_t vocabulary : {2, 3000})
    for (const char* activation : {"gelu", "swiglu"})
      for (const std::int64_t time : {16, 150})
        for (const std::int64_t layers : {1, 8}) {
          GptConfig c = config(vocabulary, layers, time);
          c.activation = activation;
          c.dropout = 0.1;
          Instance whole(c, core::Dtype::float32, cpu());
          const double all = double(activation_peak(whole, 2, time));
          c.recompute = "blocks";
          Instance gpt(c, core::Dtype::float32, cpu());
          const double peak = double(activation_peak(gpt, 2, time));
          EXPECT_NEAR(double(gpt.model->activation_bytes({2, time, core::Dtype::float32, gpt.device->kind()})), peak,
                      0.05 * peak)
              << "vocabulary " << vocabulary << ", " << activation << ", time " << time << ", layers " << layers;
          if (layers == 8 && vocabulary == 2) {
            EXPECT_LT(peak, all / 2);
          }
        }
}

// On a GPU attention takes other memory for documents: cuDNN keeps gradients of scores, our own kernel none.
TEST(GptMemory, PackedDocumentsTakeWhatTheFormulaSays) {
  for (const core::Dtype dtype : {core::Dtype::float32, core::Dtype::bfloat16})
    for (const bool documents : {false, true}) {
      Instance gpt(config(2, 2, 256), dtype, test::make_test_device(2, core::Bfloat16::emulated));
      const double peak = double(activation_peak(gpt, 2, 256, documents));
      EXPECT_NEAR(double(gpt.model->activation_bytes({2, 256, dtype, gpt.device->kind(), documents})), peak, 0.05 * peak)
          << core::name_of(dtype) << (documents ? ", documents" : "");
    }
}

TEST(GptMemory, Bfloat16LogitsTakeHalf) {
  std::vector<double> peaks;
  for (const char* logits : {"float32", "bfloat16"}) {
    GptConfig c = config(3000, 1, 64);
    c.logits_dtype = logits;
    Instance gpt(c, core::Dtype::bfloat16, cpu());
    peaks.push_back(double(activation_peak(gpt, 2, 64)));
    EXPECT_NEAR(double(gpt.model->activation_bytes({2, 64, core::Dtype::bfloat16, gpt.device->kind()})), peaks.back(),
                0.05 * peaks.back());
  }
  EXPECT_NEAR(peaks[0] - peaks[1], 2.0 * 64 * 3008 * 2, 0.02 * peaks[0]);
}

TEST(GptMemory, HeadChunksSaveLogits) {
  GptConfig c = config(3000, 1, 64);
  c.head_chunk_rows = 16;
  Instance gpt(c, core::Dtype::float32, cpu());
  const double peak = double(activation_peak(gpt, 2, 64));
  EXPECT_NEAR(double(gpt.model->activation_bytes({2, 64, core::Dtype::float32, gpt.device->kind()})), peak, 0.05 * peak);
  EXPECT_LT(peak, 128 * 3000 * 4 / 2);
}

TEST(GptMemory, AStepReleasesEveryActivation) {
  for (const core::Dtype dtype : {core::Dtype::float32, core::Dtype::bfloat16})
    for (const char* positions : {"learned", "rotary"}) {
      GptConfig c = config(50, 2, 16);
      c.positions = positions;
      c.dropout = 0.1;
      c.head_chunk_rows = 5;
      Instance gpt(c, dtype);
      EXPECT_GT(activation_peak(gpt, 2, 16), 0);
    }
}

// All scores of one layer would be batch·heads·time² floats; what is held stays below it even over all
// layers.
TEST(GptMemory, NoSquareOfTheSequenceLengthIsHeld) {
  constexpr std::int64_t kTime = 768, kBatch = 2, kLayers = 2;
  GptConfig c = config(2, kLayers, kTime);
  c.heads = 16;
  Instance gpt(c, core::Dtype::float32, cpu());
  const std::int64_t scores = kBatch * c.heads * kTime * kTime * 4;
  EXPECT_LT(activation_peak(gpt, kBatch, kTime), scores / 4);
}
