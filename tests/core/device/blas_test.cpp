#include "core/device/blas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <cstdlib>
#include <vector>

#include "core/base/rng.h"
#include "core/device/symmetric.h"
#include "tests/support/test_device.h"

using namespace muonp::core;
using namespace muonp::test;

namespace {

// A matrix of small integers on the test's device, in rows wider than it is; the slack holds a pattern that
// must survive. `values` are what it held at first, and after fetch() what it holds. A copy shares the
// device's memory, not `values`.
template <class T>
struct Matrix {
  std::int64_t rows, cols, stride;
  std::vector<T> values;
  Tensor memory;

  Matrix(std::int64_t r, std::int64_t c, std::int64_t slack, std::uint64_t seed)
      : rows(r), cols(c), stride(c + slack), values(static_cast<std::size_t>(r * stride)) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = T(static_cast<float>(random_below(seed, 0, i, 9)) - 4.0f);
    memory = Tensor::empty(test_device(), {r * stride}, dtype_of<T>, Category::other);
    send();
  }
  void send() const { set_values(memory, values); }
  void fetch() { values = values_of<T>(memory); }
  MatrixView view() const { return {memory.raw(), rows, cols, stride, dtype_of<T>}; }
  double at(std::int64_t r, std::int64_t c) const {
    return static_cast<float>(values[static_cast<std::size_t>(r * stride + c)]);
  }
};

template <class T>
double reference(const Matrix<T>& a, const Matrix<T>& b, Op op_a, Op op_b, std::int64_t r, std::int64_t c) {
  const std::int64_t k = op_a == Op::none ? a.cols : a.rows;
  double sum = 0;
  for (std::int64_t i = 0; i < k; ++i)
    sum += (op_a == Op::none ? a.at(r, i) : a.at(i, r)) * (op_b == Op::none ? b.at(i, c) : b.at(c, i));
  return sum;
}

// Integers of this size are exact in float32 and bfloat16 operands, and their sums in float32.
template <class T, class Result>
void check_gemm(Device& device, std::int64_t m, std::int64_t n, std::int64_t k, Op op_a, Op op_b, float alpha, float beta) {
  SCOPED_TRACE(fmt::format("{}x{}x{} ops {}{} alpha {} beta {}", m, n, k, static_cast<int>(op_a), static_cast<int>(op_b),
                           alpha, beta));
  Matrix<T> a(op_a == Op::none ? m : k, op_a == Op::none ? k : m, 3, 1);
  Matrix<T> b(op_b == Op::none ? k : n, op_b == Op::none ? n : k, 5, 2);
  Matrix<Result> c(m, n, 2, 3);
  const Matrix<Result> before = c;
  gemm(device.queue(), op_a, op_b, alpha, a.view(), b.view(), beta, c.view());
  c.fetch();
  for (std::int64_t r = 0; r < m; ++r) {
    for (std::int64_t j = 0; j < n; ++j) {
      const double wanted = alpha * reference(a, b, op_a, op_b, r, j) + beta * before.at(r, j);
      ASSERT_EQ(c.at(r, j), static_cast<float>(Result(static_cast<float>(wanted)))) << r << ", " << j;
    }
    for (std::int64_t j = n; j < c.stride; ++j) ASSERT_EQ(c.at(r, j), before.at(r, j)) << "outside the result";
  }
}

template <class T, class Result>
void check_all_shapes(Device& device) {
  for (Op op_a : {Op::none, Op::transpose})
    for (Op op_b : {Op::none, Op::transpose})
      for (auto [m, n, k] :
           {std::array<std::int64_t, 3>{1, 1, 1}, {3, 5, 7}, {17, 1, 33}, {1, 40, 9}, {65, 70, 66}, {9, 12, 700}}) {
        check_gemm<T, Result>(device, m, n, k, op_a, op_b, 1, 0);
        check_gemm<T, Result>(device, m, n, k, op_a, op_b, 2, 1);
        check_gemm<T, Result>(device, m, n, k, op_a, op_b, -0.5f, -2);
      }
}

}  // namespace

TEST(Gemm, Float32IsExactOnIntegersForEveryOperationAndStride) {
  for (int threads : {1, 2}) {
    auto device = make_test_device(threads);
    check_all_shapes<float, float>(*device);
  }
}

TEST(Gemm, Bfloat16RoundsOnce) {  // on the CPU emulated, which runs the code of its primitives too
  for (int threads : {1, 2}) {
    auto device = make_test_device(threads, Bfloat16::emulated);
    check_all_shapes<bfloat16, float>(*device);
    check_all_shapes<bfloat16, bfloat16>(*device);
  }
}

// Integers below 256 are exact in bfloat16, so that a bias rounds to it with the sum or after it alike.
TEST(Gemm, ABiasIsAddedToEveryRow) {
  auto device = make_test_device(2, Bfloat16::emulated);
  const auto check = [&]<class T>(T) {
    for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{1, 1, 1}, {3, 5, 7}, {17, 64, 9}, {70, 33, 5}})
      for (const std::int64_t slack : {0, 1, 8})  // how the library is told that arrays are aligned
        for (const Op op_b : {Op::none, Op::transpose}) {
          SCOPED_TRACE(fmt::format("{}x{}x{} {} {}", m, n, k, static_cast<int>(op_b), slack));
          Matrix<T> a(m, k, slack, 1), b(op_b == Op::none ? k : n, op_b == Op::none ? n : k, slack, 2), c(m, n, slack, 3);
          const Matrix<T> before = c, biases(1, n, 3, 4);
          for (const std::int64_t shift : {0, 1, 3}) {
            gemm_with_epilogue(device->queue(), Op::none, op_b, a.view(), b.view(),
                               {.bias = static_cast<const T*>(biases.memory.raw()) + shift}, c.view());
            c.fetch();
            for (std::int64_t r = 0; r < m; ++r) {
              for (std::int64_t j = 0; j < n; ++j)
                ASSERT_EQ(c.at(r, j), reference(a, b, Op::none, op_b, r, j) + biases.at(0, j + shift)) << r << ", " << j;
              for (std::int64_t j = n; j < c.stride; ++j) ASSERT_EQ(c.at(r, j), before.at(r, j)) << "outside the result";
            }
          }
        }
  };
  check(float());
  check(bfloat16());
}

TEST(Gemm, Float16OnAGpuRoundsOnceAndOnTheCpuIsRefused) {
  auto device = make_test_device();
  if (on_gpu()) {
    check_all_shapes<float16, float>(*device);
    check_all_shapes<float16, float16>(*device);
  } else {
    EXPECT_THROW((check_gemm<float16, float>(*device, 3, 5, 7, Op::none, Op::none, 1, 0)), Error);
  }
}

TEST(Gemm, PrimitiveCacheTellsScalesAndStridesApart) {
  auto device = make_test_device(1, Bfloat16::emulated);
  for (int round = 0; round < 2; ++round)
    for (float alpha : {1.0f, 2.0f, 3.0f})
      for (float beta : {0.0f, 1.0f, -1.0f})
        check_gemm<bfloat16, float>(*device, 9, 8, 7, Op::none, Op::transpose, alpha, beta);
}

TEST(Gemm, ZeroBetaDoesNotReadTheResult) {
  auto device = make_test_device(1, Bfloat16::emulated);
  const auto check = [&]<class T>(T) {
    const Tensor abc = Tensor::empty(*device, {3, 1, 1}, dtype_of<T>, Category::other);
    set_values<T>(abc, {T(2.0f), T(3.0f), T(NAN)});
    gemm(device->queue(), Op::none, Op::none, 1, MatrixView(abc[0]), MatrixView(abc[1]), 0, MatrixView(abc[2]));
    EXPECT_EQ(float(value_of<T>(abc[2])), 6);
  };
  check(float());
  check(bfloat16());
}

TEST(Gemm, SizesOfZero) {
  auto device = make_test_device(1);
  const Tensor c = Tensor::empty(*device, {2, 2}, Dtype::float32, Category::other);
  set_values<float>(c, {1, 2, 3, 4});
  const MatrixView result(c);
  gemm(device->queue(), Op::none, Op::none, 1, {nullptr, 2, 0, 0}, {nullptr, 0, 2, 2}, -3, result);
  EXPECT_THAT(values_of(c), testing::ElementsAre(-3, -6, -9, -12));
  set_value(c, 0, NAN);
  gemm(device->queue(), Op::none, Op::none, 1, {nullptr, 2, 0, 0}, {nullptr, 0, 2, 2}, 0, result);
  EXPECT_THAT(values_of(c), testing::Each(0));
  gemm(device->queue(), Op::none, Op::none, 1, {nullptr, 0, 2, 2}, result, 0, {nullptr, 0, 2, 2});
  gemm_batched(device->queue(), 0, Op::none, Op::none, 1, {result, 4}, {result, 4}, 0, {result, 4});
  EXPECT_THAT(values_of(c), testing::Each(0));
}

TEST(Gemm, WrongArgumentsAreRefused) {
  auto device = make_test_device(1, Bfloat16::emulated);
  const Tensor data = Tensor::zeros(*device, {64}, Dtype::float32, Category::other);
  const auto view = [&](std::int64_t rows, std::int64_t cols, std::int64_t stride, Dtype dtype = Dtype::float32) {
    return MatrixView(data.raw(), rows, cols, stride, dtype);
  };
  const auto run = [&](const MatrixView& a, const MatrixView& b, const MatrixView& c) {
    gemm(device->queue(), Op::none, Op::none, 1, a, b, 0, c);
  };
  EXPECT_THROW(run(view(2, 3, 3), view(4, 2, 2), view(2, 2, 2)), InternalError);
  EXPECT_THROW(run(view(2, 3, 3), view(3, 2, 2), view(2, 3, 3)), InternalError);
  EXPECT_THROW(run(view(2, 3, 2), view(3, 2, 2), view(2, 2, 2)), InternalError);
  EXPECT_THROW(run(view(2, 3, 3, Dtype::bfloat16), view(3, 2, 2), view(2, 2, 2)), InternalError);
  EXPECT_THROW(run(view(2, 3, 3), view(3, 2, 2), view(2, 2, 2, Dtype::bfloat16)), InternalError);
  if (!on_gpu()) {
    EXPECT_THROW(run(view(2, 3, 3, Dtype::float16), view(3, 2, 2, Dtype::float16), view(2, 2, 2)), Error);
  }
  EXPECT_THROW(run({nullptr, 2, 3, 3}, view(3, 2, 2), view(2, 2, 2)), InternalError);
}

TEST(Gemm, BatchEqualsALoopWithSharedAndStridedOperands) {
  for (int threads : {1, 2}) {
    auto device = make_test_device(threads);
    constexpr std::int64_t count = 5, m = 6, n = 7, k = 8;
    Matrix<float> a(count * m, k, 0, 1), b(k, n, 0, 2), c(count * m, n, 3, 3), d(count * m, n, 3, 3);
    gemm_batched(device->queue(), count, Op::none, Op::none, 1, {a.view().block(0, 0, m, k), m * k}, {b.view(), 0}, 1,
                 {c.view().block(0, 0, m, n), m * c.stride});
    for (std::int64_t i = 0; i < count; ++i)
      gemm(device->queue(), Op::none, Op::none, 1, a.view().block(i * m, 0, m, k), b.view(), 1,
           d.view().block(i * m, 0, m, n));
    c.fetch();
    d.fetch();
    EXPECT_EQ(c.values, d.values);
  }
}

TEST(Gemm, OverlappingBatchResultsAreRefused) {
  auto device = make_test_device(1);
  const Tensor x = Tensor::zeros(*device, {32}, Dtype::float32, Category::other);
  const MatrixView a(x.raw(), 2, 2, 2), c(x.flat(16, 16).raw(), 2, 2, 2);
  EXPECT_THROW(gemm_batched(device->queue(), 2, Op::none, Op::none, 1, {a, 0}, {a, 0}, 0, {c, 3}), InternalError);
}

// Operands whose offsets in elements, and in bytes, do not fit 32 bits: few pages of a large reservation are
// touched. Of the CPU, whose products read any memory.
TEST(Gemm, Pitfall14_OffsetsPast32Bits) {
  constexpr std::int64_t batch_stride = (std::int64_t{1} << 31) + 48;
  constexpr std::size_t bytes = (2 * batch_stride + 4096) * sizeof(float);
  void* reserved = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(reserved, MAP_FAILED);
  auto device = make_cpu_test_device(1);
  const StridedBatch batch{{reserved, 2, 2, 2}, batch_stride};
  for (std::int64_t i = 0; i < 3; ++i) {
    auto* data = static_cast<float*>(batch[i].data);
    EXPECT_EQ(data - static_cast<float*>(reserved), i * batch_stride);
    data[0] = 1, data[1] = 2, data[2] = 3, data[3] = static_cast<float>(i);
  }
  std::vector<float> one = {1, 0, 0, 1}, out(12);
  gemm_batched(device->queue(), 3, Op::none, Op::none, 1, batch, {{one.data(), 2, 2, 2}, 0}, 0, {{out.data(), 2, 2, 2}, 4});
  EXPECT_THAT(out, testing::ElementsAre(1, 2, 3, 0, 1, 2, 3, 1, 1, 2, 3, 2));
  // Rows so far apart that row 2 begins past 2³¹ elements.
  const MatrixView tall(reserved, 3, 2, batch_stride);
  EXPECT_EQ(static_cast<float*>(tall.block(2, 1, 1, 1).data) - static_cast<float*>(reserved), 2 * batch_stride + 1);
  float sum[2];
  float ones[3] = {1, 1, 1};
  gemm(device->queue(), Op::none, Op::none, 1, {ones, 1, 3, 3}, tall, 0, {sum, 1, 2, 2});
  EXPECT_EQ(sum[0], 3);
  EXPECT_EQ(sum[1], 6);
  munmap(reserved, bytes);
}

TEST(Bfloat16, IsRefusedWithAReasonWhereTheProcessorHasNone) {
  const std::string refusal = bfloat16_refusal(DeviceKind::cpu);
  auto native = make_cpu_test_device(1), emulated = make_cpu_test_device(1, Bfloat16::emulated);
  EXPECT_EQ(product_refusal(native->queue(), Dtype::bfloat16), refusal);
  EXPECT_EQ(product_refusal(emulated->queue(), Dtype::bfloat16), "");
  EXPECT_THAT(emulated->name(), testing::HasSubstr("bfloat16 emulated"));
  bfloat16 x(1.0f);
  float y = 0;
  const MatrixView a(&x, 1, 1, 1, Dtype::bfloat16), c(&y, 1, 1, 1);
  if (refusal.empty()) {
    gemm(native->queue(), Op::none, Op::none, 1, a, a, 0, c);
    EXPECT_EQ(y, 1);
  } else {
    EXPECT_THAT(refusal, testing::AllOf(testing::HasSubstr("avx512_bf16"), testing::HasSubstr("float32")));
    EXPECT_THROW(gemm(native->queue(), Op::none, Op::none, 1, a, a, 0, c), Error);
  }
}

namespace {

// A symmetric matrix of small integers and its square commute; so do polynomials of it.
template <class T>
struct Symmetric : Matrix<T> {
  explicit Symmetric(std::int64_t n, std::uint64_t seed = 1) : Matrix<T>(n, n, 9, seed) {
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t c = 0; c < r; ++c) set(c, r, (*this).at(r, c));
    (*this).send();
  }
  void set(std::int64_t r, std::int64_t c, double value) {
    (*this).values[static_cast<std::size_t>(r * (*this).stride + c)] = T(static_cast<float>(value));
  }
};

const std::int64_t kSizes[] = {1, 2, 7, 8, 9, 63, 64, 65, 100, 129, 257, 300};

}  // namespace

TEST(Symmetric, ProductEqualsTheFullProductForEverySize) {
  for (int threads : {1, 2, 3}) {
    auto device = make_test_device(threads);
    for (std::int64_t n : kSizes) {
      Symmetric<float> a(n), c(n, 5), full(n, 6);
      const Symmetric<float> before = c;
      symmetric_product(device->queue(), 2, a.view(), a.view(), c.view());
      gemm(device->queue(), Op::none, Op::none, 2, a.view(), a.view(), 0, full.view());
      c.fetch();
      full.fetch();
      for (std::int64_t r = 0; r < n; ++r) {
        for (std::int64_t j = 0; j < n; ++j) ASSERT_EQ(c.at(r, j), full.at(r, j)) << n << ": " << r << ", " << j;
        for (std::int64_t j = n; j < c.stride; ++j) ASSERT_EQ(c.at(r, j), before.at(r, j)) << "outside the result";
      }
    }
  }
}

TEST(Symmetric, GramOfEitherSide) {
  for (int threads : {1, 2}) {
    auto device = make_test_device(threads);
    for (auto [rows, cols] : {std::array<std::int64_t, 2>{300, 70}, {70, 300}, {1, 9}, {9, 1}, {130, 130}}) {
      Matrix<float> a(rows, cols, 4, 1);
      for (Op side : {Op::none, Op::transpose}) {
        const std::int64_t n = side == Op::none ? rows : cols;
        Matrix<float> c(n, n, 1, 2);
        gram(device->queue(), side, 1, a.view(), c.view());
        c.fetch();
        const Op other = side == Op::none ? Op::transpose : Op::none;
        for (std::int64_t r = 0; r < n; ++r)
          for (std::int64_t j = 0; j < n; ++j)
            ASSERT_EQ(c.at(r, j), reference(a, a, side, other, r, j)) << rows << "x" << cols << ": " << r << ", " << j;
      }
    }
  }
}

TEST(Symmetric, FormsCombineScaleAndMirror) {
  for (int threads : {1, 2})
    for (std::int64_t n : kSizes) {
      auto device = make_test_device(threads);
      Symmetric<float> a(n), c(n, 5), x(n, 6), y(n, 7), full(n, 8), both(n, 9), lower(n, 10);
      const Symmetric<float> untouched = lower;
      const SymmetricForm forms[] = {
          {.out = both.view(), .product = 2, .identity = 3, .first = {x.view(), 4}, .second = {y.view(), -1}},
          {.out = lower.view(), .product = -1, .mirror = false},
          {.out = x.view(), .product = 0, .first = {x.view(), 5}},  // in place of its own term
          {.out = c.view(), .product = 1, .identity = 1}};          // in place of the product
      const Symmetric<float> x_before = x;
      symmetric_product(device->queue(), 1, a.view(), a.view(), c.view(), forms);
      gemm(device->queue(), Op::none, Op::none, 1, a.view(), a.view(), 0, full.view());
      for (Symmetric<float>* matrix : {&both, &lower, &x, &c, &full}) matrix->fetch();
      for (std::int64_t r = 0; r < n; ++r)
        for (std::int64_t j = 0; j < n; ++j) {
          const double one = r == j ? 1 : 0, product = full.at(r, j);
          ASSERT_EQ(both.at(r, j), 2 * product + 3 * one + 4 * x_before.at(r, j) - y.at(r, j)) << n;
          ASSERT_EQ(lower.at(r, j), r >= j ? -product : untouched.at(r, j)) << n;
          ASSERT_EQ(x.at(r, j), 5 * x_before.at(r, j)) << n;
          ASSERT_EQ(c.at(r, j), product + one) << n;
        }
    }
}

TEST(Symmetric, FormThatOverwritesTheProductTooEarlyIsRefused) {
  auto device = make_test_device(1);
  Symmetric<float> a(4), c(4), d(4);
  const SymmetricForm forms[] = {{.out = c.view(), .product = 2}, {.out = d.view()}};
  EXPECT_THROW(symmetric_product(device->queue(), 1, a.view(), a.view(), c.view(), forms), InternalError);
}

TEST(Symmetric, Bfloat16) {  // on the CPU emulated
  auto device = make_test_device(2, Bfloat16::emulated);
  for (std::int64_t n : {1, 9, 65, 130}) {
    Symmetric<bfloat16> a(n), c(n, 2), full(n, 3);
    symmetric_product(device->queue(), 1, a.view(), a.view(), c.view());
    gemm(device->queue(), Op::none, Op::none, 1, a.view(), a.view(), 0, full.view());
    c.fetch();
    full.fetch();
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t j = 0; j < n; ++j) ASSERT_EQ(c.at(r, j), full.at(r, j)) << n;
  }
}

TEST(Symmetric, SymmetrizedProductIsTheMeanWithItsTranspose) {
  auto device = make_test_device(2);
  for (std::int64_t n : kSizes) {
    Symmetric<float> a(n, 1), b(n, 2), c(n, 3), full(n, 4);  // a and b do not commute
    symmetrized_product(device->queue(), 2, a.view(), b.view(), c.view());
    gemm(device->queue(), Op::none, Op::none, 1, a.view(), b.view(), 0, full.view());
    c.fetch();
    full.fetch();
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t j = 0; j < n; ++j) ASSERT_EQ(c.at(r, j), full.at(r, j) + full.at(j, r)) << n;
  }
}

TEST(Symmetric, Moments) {
  auto device = make_test_device(2);
  for (std::int64_t n : kSizes) {
    Symmetric<float> x(n, 1), y(n, 2);
    double trace = 0, xx = 0, xy = 0, yy = 0;
    for (std::int64_t r = 0; r < n; ++r) {
      trace += x.at(r, r);
      for (std::int64_t c = 0; c < n; ++c) {
        xx += x.at(r, c) * x.at(r, c);
        xy += x.at(r, c) * y.at(r, c);
        yy += y.at(r, c) * y.at(r, c);
      }
    }
    EXPECT_THAT(symmetric_moments(device->queue(), x.view(), y.view()), testing::ElementsAre(trace, xx, xy, yy)) << n;
  }
}

// So many that a GPU computes blocks of the lower triangle, 320 and 256 rows each, as one batch.
TEST(Symmetric, ManyTogetherEqualTheirFullProducts) {
  auto device = make_test_device(2);
  for (auto [n, count] : {std::pair<std::int64_t, std::int64_t>{960, 5}, {512, 17}, {640, 11}}) {
    const std::int64_t size = n * n;
    Matrix<float> a(count * n, n, 0, 1), c(count * n, n, 0, 2), full(count * n, n, 0, 3);
    for (std::int64_t i = 0; i < count; ++i)  // symmetric
      for (std::int64_t r = 0; r < n; ++r)
        for (std::int64_t j = 0; j < r; ++j) a.values[i * size + j * n + r] = a.values[i * size + r * n + j];
    a.send();
    const auto batch = [&](const Matrix<float>& of) { return StridedBatch{of.view().block(0, 0, n, n), size}; };
    gemm_batched(device->queue(), count, Op::none, Op::none, 2, batch(a), batch(a), 0, batch(full));
    full.fetch();
    symmetric_product(device->queue(), count, 2, batch(a), batch(a), batch(c));
    c.fetch();
    EXPECT_EQ(c.values, full.values) << n;
    // The Gram matrices of wide and of tall parts of them.
    for (const Op side : {Op::none, Op::transpose}) {
      const Op other = side == Op::none ? Op::transpose : Op::none;
      const StridedBatch part = {side == Op::none ? a.view().block(0, 0, n, 70) : a.view().block(0, 0, 70, n), size};
      gemm_batched(device->queue(), count, side, other, 1, part, part, 0, batch(full));
      full.fetch();
      gram(device->queue(), count, side, 1, part, batch(c));
      c.fetch();
      EXPECT_EQ(c.values, full.values) << n;
    }
  }
}

TEST(Symmetric, FlopsAreThoseOfTheBlocks) {
  EXPECT_EQ(symmetric_flops(64, 10), 2.0 * 64 * 64 * 10);
  EXPECT_EQ(symmetric_flops(128, 10), 2.0 * 3 * 64 * 64 * 10);
  EXPECT_NEAR(symmetric_flops(1024, 1024) / gemm_flops(1024, 1024, 1024), 0.5 + 0.5 / 16, 1e-12);
  const auto on_gpu = [](std::int64_t n, std::int64_t count) {
    return symmetric_flops(n, 1, DeviceKind::cuda, count) / static_cast<double>(count * n * n);
  };
  EXPECT_EQ(on_gpu(768, 1), 2);  // whole
  EXPECT_EQ(on_gpu(768, 48), 1 + 256.0 / 768);
  EXPECT_EQ(on_gpu(4096, 1), 1 + 512.0 / 4096);
  EXPECT_EQ(on_gpu(1600, 8), 1 + 320.0 / 1600);
  EXPECT_EQ(on_gpu(4099, 1), 2);  // no block of whole cache lines
}
