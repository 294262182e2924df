// What the stand-in for GPUs can count of a pass: operations that are given to the GPU.
#include <gtest/gtest.h>

#include "cuda_host.h"
#include "tests/models/gpt/tiny_gpt.h"

using namespace muonp;
using namespace muonp::models;
using namespace muonp::models::testing;

namespace {

// The layers of GPT-2 124M, a width of 16 for 768.
GptConfig gpt2() {
  GptConfig c;
  c.layers = 12;
  c.heads = 2;
  c.width = 16;
  c.context = 64;
  c.vocabulary = 128;
  return c;
}

// Of forward and backward with gradients that are there from the step before.
std::size_t operations(Instance& gpt, std::int64_t batch, bool documents = false) {
  const core::Tensor ids = gpt.ids(random_ids(batch * 64, 128, 1), batch);
  TokenBatch tokens{ids, ids};
  if (documents) tokens.begins = gpt.ids(std::vector<std::int32_t>(core::at(batch * 64)), batch);
  gpt.step(tokens);
  gpt.plain.start_step();
  const std::size_t before = cuda_host::operations();
  gpt.step(tokens);
  return cuda_host::operations() - before;
}

}  // namespace

// Attention is one operation in each direction; what cuDNN launches for one is not seen.
TEST(GptLaunches, APassOfGpt2TakesFewAtAnyBatch) {
  Instance gpt(gpt2(), core::Dtype::bfloat16, test::make_test_device());
  ASSERT_EQ(gpt.device->kind(), core::DeviceKind::cuda);
  const std::size_t one = operations(gpt, 1);
  EXPECT_LE(one, 700u);
  RecordProperty("operations", static_cast<int>(one));
  EXPECT_EQ(operations(gpt, 7), one);
  // Our own attention's backward pass is three operations, and where documents begin is sent, and what follows from it.
  const std::size_t packed = operations(gpt, 1, true);
  EXPECT_LE(packed, one + 2 * 12 + 8);
  EXPECT_EQ(operations(gpt, 7, true), packed);
}
