// Batches on a GPU: the matrices of one shape take each step together, in the launches of one, and none disturbs another.
#include <gmock/gmock.h>

#include <functional>

#include "core/base/error.h"
#include "cuda_host.h"
#include "optim/rules/spectral_step.h"
#include "optim/spectral/spectral_power.h"
#include "tests/optim/spectral/spectral_reference.h"

namespace muonp::optim::spectral {
namespace {

using core::Tensor;

std::unique_ptr<SpectralPower> power_of(const std::string& method, const char* p, core::Dtype dtype) {
  SpectralOptions o;
  o.method = method;
  o.p = parse_exponent(p);
  o.dtype = dtype;
  return make_spectral_power(o);
}

// Matrices made from a seed, of sizes far apart; the third is zero.
std::vector<float> sized(std::int64_t count, const std::function<test::Dense(std::uint64_t)>& make) {
  constexpr double kSizes[] = {1, 1e-9, 0, 1e9, 3e4, 1e-3};
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i)
    for (const double x : make(std::uint64_t(i)).values) values.push_back(static_cast<float>(kSizes[i % 6] * x));
  return values;
}

std::vector<float> batch_of(std::int64_t count, std::int64_t rows, std::int64_t cols) {
  return sized(count, [=](std::uint64_t seed) { return test::gaussian(rows, cols, seed); });
}

// Of singular values from 0.1 to 1, whose squares are far above float32's rounding.
std::vector<float> flat_batch_of(std::int64_t count, std::int64_t rows, std::int64_t cols) {
  return sized(count, [=](std::uint64_t seed) {
    test::Factors f = test::known_factors("linear", rows, cols, 1 + 2 * seed);
    for (double& sigma : f.s) sigma = 0.1 + 0.9 * sigma;
    return test::compose(f, [](double sigma) { return sigma; });
  });
}

Tensor on(core::Device& device, const core::Shape& shape, const std::vector<float>& values) {
  const Tensor t = Tensor::empty(device, shape, core::Dtype::float32, core::Category::other);
  test::set_values(t, values);
  return t;
}

struct Case {
  const char *method, *p;
  core::Dtype dtype;
  std::int64_t rows, cols;
};
const Case kCases[] = {{"coupled_minimax", "1/2", core::Dtype::float16, 40, 24},
                       {"coupled_minimax", "1/3", core::Dtype::float16, 24, 24},
                       {"coupled_minimax", "0", core::Dtype::float16, 24, 60},
                       {"coupled_minimax", "-1/4", core::Dtype::tf32, 40, 24},
                       {"coupled_minimax", "1/2", core::Dtype::bfloat16, 40, 24},
                       {"coupled_minimax", "1/2", core::Dtype::float32, 40, 24},
                       {"coupled_minimax", "1/3", core::Dtype::float32, 24, 60},
                       {"coupled_minimax", "0", core::Dtype::float32, 24, 24},
                       {"coupled_minimax", "-1/4", core::Dtype::float32, 40, 24},
                       {"coupled_minimax", "15/16", core::Dtype::float32, 24, 60},
                       {"coupled_minimax", "1", core::Dtype::float32, 40, 24},
                       {"coupled_minimax", "1", core::Dtype::float16, 24, 60},
                       {"newton_schulz5", "0", core::Dtype::float16, 40, 24},
                       {"newton_schulz5", "0", core::Dtype::float32, 24, 40},
                       {"gram_newton_schulz", "0", core::Dtype::float16, 40, 24},
                       {"symmetric_newton_schulz5", "0", core::Dtype::float32, 24, 40}};

}  // namespace

TEST(Together, EachMatrixIsTakenAsIfItWereAlone) {
  const auto device = test::make_test_device(1);
  ASSERT_EQ(device->kind(), core::DeviceKind::cuda);
  constexpr std::int64_t kCount = 6;
  for (const Case& c : kCases) {
    const auto power = power_of(c.method, c.p, c.dtype);
    EXPECT_TRUE(power->takes_together(core::DeviceKind::cuda));
    EXPECT_FALSE(power->takes_together(core::DeviceKind::cpu));
    const std::vector<float> values = batch_of(kCount, c.rows, c.cols);
    const Tensor g = on(*device, {kCount, c.rows, c.cols}, values), z = test::empty_like(*device, g);
    const SpectralReport report = power->apply(*device, g, z);
    for (std::int64_t i = 0; i < kCount; ++i) {
      const Tensor one = test::empty_like(*device, g[i]);
      const SpectralReport alone = power->apply(*device, g[i], one);
      EXPECT_EQ(report.scale[std::size_t(i)], alone.scale[0]) << c.method << " " << c.p << ", matrix " << i;
      EXPECT_EQ(test::values_of(z[i]), test::values_of(one)) << c.method << " " << c.p << ", matrix " << i;
    }
    if (c.p == std::string("1")) {
      EXPECT_EQ(test::values_of(z), values);
    }
    EXPECT_EQ(report.scale[2], 0);
    EXPECT_EQ(test::values_of(z[2]), std::vector<float>(std::size_t(c.rows * c.cols), 0.0f));
  }
}

// float32 takes the same steps on both devices. What differs is rounding, which the first polynomials magnify: a tenth of
// the error that the design allows.
TEST(Together, Float32IsTheCpusUpToRounding) {
  constexpr std::int64_t kCount = 6;
  for (const Case& c : kCases) {
    if (c.method != std::string("coupled_minimax") || c.dtype != core::Dtype::float32) continue;
    SCOPED_TRACE(fmt::format("[{}, {}] at p = {}", c.rows, c.cols, c.p));
    const auto power = power_of(c.method, c.p, c.dtype);
    const auto on_device = [&](test::TestDevice device) {
      const Tensor g = on(*device, {kCount, c.rows, c.cols}, flat_batch_of(kCount, c.rows, c.cols)),
                   z = test::empty_like(*device, g);
      SpectralReport report = power->apply(*device, g, z);
      report.squares = {};  // of the device, which goes
      return std::pair(report, test::values_of(z));
    };
    const auto [of_cpu, expected] = on_device(test::make_cpu_test_device(1));
    ASSERT_TRUE(test::on_gpu());
    const auto [of_gpu, found] = on_device(test::make_test_device(1));
    EXPECT_EQ(of_gpu.steps, of_cpu.steps);
    EXPECT_EQ(of_gpu.restarts, of_cpu.restarts);
    const std::size_t size = expected.size() / kCount;
    for (std::size_t i = 0; i < kCount; ++i) {
      EXPECT_NEAR(of_gpu.scale[i], of_cpu.scale[i], 1e-6 * of_cpu.scale[i]);
      double apart = 0, squares = 0;
      for (std::size_t k = i * size; k < (i + 1) * size; ++k) {
        apart += std::pow(double{found[k]} - double{expected[k]}, 2);
        squares += std::pow(double{expected[k]}, 2);
      }
      EXPECT_LE(std::sqrt(apart), 1e-3 * std::sqrt(squares)) << "matrix " << i;
    }
  }
}

TEST(Together, AnEntryThatIsNotFiniteIsNamed) {
  const auto device = test::make_test_device(1);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const auto& [method, p, dtype] : {std::tuple{"coupled_minimax", "0", core::Dtype::float16},
                                           {"coupled_minimax", "1/2", core::Dtype::float32},
                                           {"coupled_minimax", "1", core::Dtype::float32},
                                           {"newton_schulz5", "0", core::Dtype::float16}}) {
      std::vector<float> values = batch_of(4, 20, 12);
      values[3 * 240 + 2 * 12 + 5] = bad;
      const Tensor g = on(*device, {4, 20, 12}, values), z = test::empty_like(*device, g);
      try {
        power_of(method, p, dtype)->apply(*device, g, z);
        ADD_FAILURE() << method << " at p = " << p;
      } catch (const core::Error& error) {
        EXPECT_THAT(error.what(), ::testing::HasSubstr("matrix 3 of 4"));
        EXPECT_THAT(error.what(), ::testing::HasSubstr("row 2, column 5"));
      }
    }
}

TEST(Together, ABatchTakesTheLaunchesAndWaitsOfOneMatrix) {
  const auto device = test::make_test_device(1);
  for (const Case& c : kCases) {
    const auto power = power_of(c.method, c.p, c.dtype);
    const auto counted = [&](std::int64_t count) {
      const Tensor g = on(*device, {count, c.rows, c.cols}, batch_of(count, c.rows, c.cols)),
                   z = test::empty_like(*device, g);
      const std::size_t before = cuda_host::operations(), waits = cuda_host::waits();
      power->apply(*device, g, z);
      return std::pair(cuda_host::operations() - before, cuda_host::waits() - waits);
    };
    const auto one = counted(1);
    EXPECT_EQ(counted(7), one) << c.method << " " << c.p;
    EXPECT_EQ(one.second, 1u) << c.method << " " << c.p;
    EXPECT_LE(one.first, 130u) << c.method << " " << c.p;
  }
}

// Parameters of one shape that lie apart are copied together; the number of launches grows by the copies alone.
TEST(Together, ParametersOfOneShapeAreOneBatch) {
  const auto device = test::make_test_device(1);
  for (const core::Dtype dtype : {core::Dtype::float16, core::Dtype::float32}) {
    SpectralStep step(power_of("coupled_minimax", "1/2", dtype), ShapeScale::match_rms, core::DeviceKind::cuda);
    const auto counted = [&](std::int64_t count) {
      constexpr std::int64_t kRows = 40, kCols = 24, kApart = kRows * kCols + 64;
      const Tensor in = Tensor::zeros(*device, {count * kApart}, core::Dtype::float32, core::Category::other),
                   out = test::empty_like(*device, in);
      std::vector<MatrixInput> inputs;
      for (std::int64_t i = 0; i < count; ++i) {
        const Tensor piece = in.flat(i * kApart, kRows * kCols);
        std::vector<float> values;
        for (const double x : test::gaussian(kRows, kCols, std::uint64_t(i)).values) values.push_back(static_cast<float>(x));
        test::set_values(piece, values);
        inputs.push_back({.name = "w", .shape = {kRows, kCols}, .in = piece, .out = out.flat(i * kApart, kRows * kCols)});
      }
      const std::size_t before = cuda_host::operations(), waits = cuda_host::waits();
      step.compute(*device, 1, inputs);
      const auto used = std::pair(cuda_host::operations() - before, cuda_host::waits() - waits);
      for (const MatrixInput& input : inputs) {
        double squares = 0;
        for (const float x : test::values_of(input.out)) squares += double{x} * x;
        EXPECT_NEAR(std::sqrt(squares / (kRows * kCols)), 0.2, 1e-5);
      }
      return used;
    };
    const auto few = counted(2), many = counted(10);
    EXPECT_EQ(many.second, few.second);
    EXPECT_EQ(few.second, 1u);
    EXPECT_LE(many.first - few.first, 8u * 2u);
  }
}

}  // namespace muonp::optim::spectral
