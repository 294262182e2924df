// What the stand-in for GPUs can count of products with an epilogue.
#include <gtest/gtest.h>

#include "core/device/blas.h"
#include "cuda_host.h"
#include "tests/support/test_device.h"

using namespace muonp::core;

namespace {

struct Counted {
  muonp::test::TestDevice device = muonp::test::make_test_device(1);

  Tensor zeros(const Shape& shape, Dtype dtype) { return Tensor::zeros(*device, shape, dtype, Category::other); }
  // Operations of 5 rows by so many outputs, of 8 terms each.
  std::size_t operations(Dtype dtype, std::int64_t outputs, bool bias, Epilogue::Gelu gelu) {
    const Tensor x = zeros({5, 8}, dtype), w = zeros({outputs, 8}, dtype), b = zeros({outputs}, dtype),
                 before = zeros({5, outputs}, dtype), y = zeros({5, outputs}, dtype);
    Epilogue e{.bias = bias ? b.raw() : nullptr, .gelu = gelu};
    if (gelu != Epilogue::Gelu::none) e.before = MatrixView(before);
    const std::size_t first = cuda_host::operations();
    gemm_with_epilogue(device->queue(), Op::none, Op::transpose, MatrixView(x), MatrixView(w), e, MatrixView(y));
    return cuda_host::operations() - first;
  }
};

}  // namespace

TEST(EpilogueLaunches, ABiasIsPartOfItsProduct) {
  Counted counted;
  ASSERT_EQ(counted.device->kind(), DeviceKind::cuda);
  EXPECT_EQ(counted.operations(Dtype::bfloat16, 16, true, Epilogue::Gelu::none), 1u);
  EXPECT_EQ(counted.operations(Dtype::bfloat16, 1, true, Epilogue::Gelu::none), 2u);  // a vector: a product, then the bias
}

// In bfloat16 and whole 16 bytes; the stand-in has compute capability 9.
TEST(EpilogueLaunches, GeluIsPartOfItsProduct) {
  Counted counted;
  for (const bool bias : {false, true}) EXPECT_EQ(counted.operations(Dtype::bfloat16, 16, bias, Epilogue::Gelu::value), 1u);
  EXPECT_EQ(counted.operations(Dtype::bfloat16, 16, false, Epilogue::Gelu::slope), 1u);
  for (const bool bias : {false, true}) EXPECT_EQ(counted.operations(Dtype::float32, 16, bias, Epilogue::Gelu::value), 2u);
  EXPECT_EQ(counted.operations(Dtype::float32, 16, false, Epilogue::Gelu::slope), 2u);
  EXPECT_EQ(counted.operations(Dtype::bfloat16, 12, true, Epilogue::Gelu::value), 2u);
  EXPECT_EQ(counted.operations(Dtype::bfloat16, 1, true, Epilogue::Gelu::value), 3u);
}
