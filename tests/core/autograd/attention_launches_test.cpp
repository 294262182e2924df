// What the stand-in for GPUs can count: operations that are given to the GPU.
#include "core/autograd/ops/attention.h"
#include "cuda_host.h"
#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;

namespace {

// Of attention over sequences of `time`, forward and backward.
std::size_t launches(std::int64_t batch, std::int64_t time) {
  const auto device = muonp::test::remember(make_cuda_device(0, "test"));
  constexpr std::int64_t kHeads = 2, kSize = 4;
  Tape tape(*device, true);
  const Variable x =
      tape.variable(Tensor::zeros(*device, {batch, time, 3 * kHeads * kSize}, Dtype::float32, Category::other));
  const std::size_t before = cuda_host::operations();
  const Variable y = ops::attention(tape, x, {kHeads, kHeads, kSize});
  const std::size_t between = cuda_host::operations();
  const Variable loss = weighted_sum(tape, y, Numbers(std::size_t(y->value.size()), 1.0));
  PlainParameters none(*device, {}, Dtype::float32, 1);
  const std::size_t after = cuda_host::operations();
  tape.backward(loss, 1, {}, none);
  return cuda_host::operations() - after + between - before;
}

}  // namespace

TEST(AttentionLaunches, DoNotDependOnTheBatch) {
  for (const std::int64_t time : {1, 71}) {
    const std::size_t one = launches(1, time);
    EXPECT_LT(one, 30u);
    EXPECT_EQ(launches(7, time), one) << "sequences of " << time;
  }
}
