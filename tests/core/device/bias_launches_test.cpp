// What the stand-in for GPUs can count of products with a bias.
#include <gtest/gtest.h>

#include "core/device/blas.h"
#include "cuda_host.h"
#include "tests/support/test_device.h"

using namespace muonp::core;

TEST(BiasLaunches, ABiasIsPartOfItsProduct) {
  const auto device = muonp::test::make_test_device(1);
  ASSERT_EQ(device->kind(), DeviceKind::cuda);
  const auto operations = [&](std::int64_t outputs) {
    const Tensor x = Tensor::zeros(*device, {5, 8}, Dtype::bfloat16, Category::other),
                 w = Tensor::zeros(*device, {outputs, 8}, Dtype::bfloat16, Category::other),
                 b = Tensor::zeros(*device, {outputs}, Dtype::bfloat16, Category::other),
                 y = Tensor::zeros(*device, {5, outputs}, Dtype::bfloat16, Category::other);
    const std::size_t before = cuda_host::operations();
    gemm_with_bias(device->queue(), Op::none, Op::transpose, 1, MatrixView(x), MatrixView(w), b.raw(), MatrixView(y));
    return cuda_host::operations() - before;
  };
  EXPECT_EQ(operations(16), 1u);
  EXPECT_EQ(operations(1), 2u);  // a vector: a product, then the bias
}
