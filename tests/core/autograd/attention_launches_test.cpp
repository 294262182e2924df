// What the stand-in for GPUs can count and choose: operations that are given to the GPU, and the order of a block's threads.
#include "core/autograd/ops/attention.h"
#include "core/device/attention.h"
#include "cuda_host.h"
#include "tests/core/autograd/attention_reference.h"

using namespace muonp::core;
using namespace muonp::core::testing;

namespace {

constexpr std::int64_t kHeads = 2;

// Of attention by the kernel of our own over sequences of `time`, forward and backward.
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
      EXPECT_LT(one, 8u);
      EXPECT_EQ(launches(7, time, dtype), one) << "sequences of " << time;
    }
}

TEST(AttentionLaunches, DoNotDependOnTheBatchWithACache) {
  const auto generated = [](std::int64_t batch, Dtype dtype) {
    const auto device = muonp::test::remember(make_cuda_device(0, "test"));
    const auto zeros = [&](std::int64_t time, std::int64_t width) {
      return Tensor::zeros(*device, {batch, time, width}, dtype, Category::other);
    };
    const Tensor qkv = zeros(1, 3 * kHeads * 8), keys = zeros(20, kHeads * 8), values = zeros(20, kHeads * 8),
                 out = zeros(1, kHeads * 8);
    const std::vector<std::int64_t> lengths(at(batch), 7);
    const std::size_t before = cuda_host::operations();
    attention_with_cache(*device, {kHeads, kHeads, 8}, qkv, keys, values, lengths, out);
    return cuda_host::operations() - before;
  };
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16})
    for (const std::int64_t batch : {1, 5}) EXPECT_EQ(generated(batch, dtype), 3u);
}

// A missing barrier gives other bits under some order.
TEST(AttentionThreads, ChangeNoBitInAnyOrder) {
  const cuda_host::Settings before = cuda_host::settings();
  for (const AttentionCase& c : std::vector<AttentionCase>{
           {1, 150, {2, 1, 8, 70}}, {1, 140, {2, 1, 3}, begins_of(140, {{30, 60}})}, {1, 70, {2, 2, 100}}})
    for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16}) {
      SCOPED_TRACE(fmt::format("{}, {}", name_of(dtype), c.text()));
      std::vector<Numbers> outs, gradients;
      for (const std::uint64_t seed : {1, 2, 3, 4}) {
        cuda_host::Settings seeded = before;
        seeded.seed = seed;
        cuda_host::configure(seeded);
        const auto device = muonp::test::remember(make_cuda_device(0, "test"));
        Tape tape(*device, true);
        const Variable x = tape.variable(to_tensor(*device, c.shape(), dtype, random_numbers(c.shape(), 1)));
        const Variable y = ops::attention(tape, x, c.heads, c.begins_on(*device));
        PlainParameters none(*device, {}, dtype, 1);
        tape.backward(weighted_sum(tape, y, random_numbers(y->value.shape(), 2)), 1, {}, none);
        outs.push_back(to_numbers(y->value));
        gradients.push_back(to_numbers(x->gradient->tensor));
      }
      for (std::size_t i = 1; i < outs.size(); ++i) {
        EXPECT_EQ(outs[i], outs[0]);
        EXPECT_EQ(gradients[i], gradients[0]);
      }
    }
  cuda_host::configure(before);
}
