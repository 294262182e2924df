// What the stand-in for GPUs can count: operations that are given to the GPU.
#include "core/autograd/ops/attention.h"
#include "core/device/attention.h"
#include "cuda_host.h"
#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;

namespace {

constexpr std::int64_t kHeads = 2;

// Of attention over sequences of `time`, forward and backward. float32, or bfloat16 with documents: in blocks of queries, or
// by the kernel of our own.
std::size_t launches(std::int64_t batch, std::int64_t time, Dtype dtype) {
  const auto device = muonp::test::remember(make_cuda_device(0, "test"));
  constexpr std::int64_t kSize = 8;
  Tape tape(*device, true);
  const Variable x = tape.variable(Tensor::zeros(*device, {batch, time, 3 * kHeads * kSize}, dtype, Category::other));
  const Tensor begins = Tensor::zeros(*device, {batch, time}, Dtype::int32, Category::other);
  const std::size_t before = cuda_host::operations();
  const Variable y = ops::attention(tape, x, {kHeads, kHeads, kSize}, begins);
  const std::size_t between = cuda_host::operations();
  const Variable loss = weighted_sum(tape, y, Numbers(std::size_t(y->value.size()), 1.0));
  PlainParameters none(*device, {}, Dtype::float32, 1);
  const std::size_t after = cuda_host::operations();
  tape.backward(loss, 1, {}, none);
  return cuda_host::operations() - after + between - before;
}

}  // namespace

TEST(AttentionLaunches, DoNotDependOnTheBatch) {
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16})
    for (const std::int64_t time : {1, 71}) {
      const std::size_t one = launches(1, time, dtype);
      EXPECT_LT(one, dtype == Dtype::float32 ? 30u : 8u);
      EXPECT_EQ(launches(7, time, dtype), one) << "sequences of " << time;
    }
}

// In float32 one sequence is taken after the other.
TEST(AttentionLaunches, DoNotDependOnTheBatchWithACache) {
  const auto generated = [](std::int64_t batch) {
    const auto device = muonp::test::remember(make_cuda_device(0, "test"));
    const auto zeros = [&](std::int64_t time, std::int64_t width) {
      return Tensor::zeros(*device, {batch, time, width}, Dtype::bfloat16, Category::other);
    };
    const Tensor qkv = zeros(1, 3 * kHeads * 8), keys = zeros(20, kHeads * 8), values = zeros(20, kHeads * 8),
                 out = zeros(1, kHeads * 8);
    const std::vector<std::int64_t> lengths(at(batch), 7);
    const std::size_t before = cuda_host::operations();
    attention_with_cache(*device, {kHeads, kHeads, 8}, qkv, keys, values, lengths, out);
    return cuda_host::operations() - before;
  };
  EXPECT_EQ(generated(1), 3u);
  EXPECT_EQ(generated(5), 3u);
}
