// Shape factors on a GPU: the matrices of a batch are scaled together, in the launches of one, as each is alone.
#include <gmock/gmock.h>

#include <tuple>
#include <vector>

#include "core/base/error.h"
#include "cuda_host.h"
#include "optim/rules/muonp.h"
#include "optim/rules/owner_step.h"
#include "optim/spectral/scales.h"
#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::optim::oracle;

namespace {

constexpr double kSizes[] = {1, 1e-9, 0, 1e9, 3e4};
constexpr std::int64_t kCount = std::size(kSizes);

// Momenta of sizes far apart, of which the third is zero, and their spectral powers: [count, rows, cols].
struct Batch {
  core::Tensor n, z;

  Batch(core::Device& device, std::int64_t count, std::int64_t rows, std::int64_t cols, double p) {
    Doubles momenta, powers;
    for (std::int64_t i = 0; i < count; ++i) {
      Doubles one = random(rows * cols, 20 + static_cast<std::uint64_t>(i));
      for (double& x : one) x *= kSizes[i];
      const Doubles power = spectral_power(one, rows, cols, p);
      momenta.insert(momenta.end(), one.begin(), one.end());
      powers.insert(powers.end(), power.begin(), power.end());
    }
    n = tensor(device, {count, rows, cols}, momenta);
    z = tensor(device, {count, rows, cols}, powers);
  }
};

core::Tensor squares_of(core::Queue& queue, const core::Tensor& z) {
  const core::Tensor squares = spectral::numbers(queue.device(), z.dim(0));
  spectral::sums_of_squares(queue, z.dim(0), dense(z), static_cast<double*>(squares.raw()));
  return squares;
}

class ScalesTogether : public testing::TestWithParam<std::tuple<ShapeScale, double, bool>> {
 protected:
  test::TestDevice device = test::make_test_device(1);
  core::Queue& queue = device->queue();
  ShapeScale scale = std::get<0>(GetParam());
  double p = std::get<1>(GetParam());
  bool with_squares = std::get<2>(GetParam());

  void SetUp() override { ASSERT_EQ(device->kind(), core::DeviceKind::cuda); }
  core::Tensor squares(const core::Tensor& z) { return with_squares ? squares_of(queue, z) : core::Tensor(); }
  std::string error_of(const Batch& batch) {
    try {
      scale_updates(queue, scale, p, batch.n, batch.z, squares(batch.z));
    } catch (const core::Error& e) {
      return e.what();
    }
    return "";
  }
};

}  // namespace

TEST_P(ScalesTogether, EachMatrixIsScaledAsIfItWereAlone) {
  for (const auto& [rows, cols] : {std::pair(40l, 24l), {24l, 40l}, {30l, 30l}, {1l, 7l}}) {
    const Batch batch(*device, kCount, rows, cols, p), alone(*device, kCount, rows, cols, p);
    scale_updates(queue, scale, p, batch.n, batch.z, squares(batch.z));
    for (std::int64_t i = 0; i < kCount; ++i) {
      scale_update(queue, scale, p, alone.n[i], alone.z[i]);
      const Doubles expected = doubles(alone.z[i]), found = doubles(batch.z[i]);
      if (kSizes[i] == 0)
        EXPECT_EQ(found, expected);
      else
        EXPECT_LT(relative_difference(found, expected), 2e-7) << "matrix " << i << " of [" << rows << ", " << cols << "]";
    }
  }
}

TEST_P(ScalesTogether, ABatchTakesTheLaunchesAndWaitsOfOneMatrix) {
  const auto counted = [&](std::int64_t count) {
    const Batch batch(*device, count, 40, 24, p);
    const core::Tensor of_z = squares(batch.z);
    const std::size_t before = cuda_host::operations(), waits = cuda_host::waits();
    scale_updates(queue, scale, p, batch.n, batch.z, of_z);
    return std::pair(cuda_host::operations() - before, cuda_host::waits() - waits);
  };
  const auto one = counted(1);
  EXPECT_EQ(counted(kCount), one);
  EXPECT_EQ(one.second, !with_squares || (scale == ShapeScale::schatten && p != 0) ? 1u : 0u);
  EXPECT_LE(one.first, 110u);
  if (with_squares && scale == ShapeScale::none) {
    EXPECT_EQ(one.first, 0u);
  }
}

TEST_P(ScalesTogether, ErrorsNameTheMatrix) {
  Batch batch(*device, kCount, 12, 8, p);
  if (!with_squares) {  // that are there are known to be finite
    Doubles values = doubles(batch.z);
    values[3 * 96 + 5] = NAN;
    batch.z = tensor(*device, {kCount, 12, 8}, values);
    EXPECT_EQ(error_of(batch), "matrix 3 of 5: the spectral power of the momentum is not finite");
  }
  batch = Batch(*device, kCount, 12, 8, p);
  Doubles turned = doubles(batch.z);
  for (std::size_t i = 4 * 96; i < 5 * 96; ++i) turned[i] = -turned[i];
  batch.z = tensor(*device, {kCount, 12, 8}, turned);
  if (scale == ShapeScale::schatten && p != 0)
    EXPECT_THAT(error_of(batch), testing::AllOf(testing::StartsWith("matrix 4 of 5: the inner product of"),
                                                testing::HasSubstr("not positive")));
  else
    EXPECT_EQ(error_of(batch), "");
}

namespace {

// Every scale at every exponent for which it is a norm, with and without squares.
std::vector<std::tuple<ShapeScale, double, bool>> all_cases() {
  std::vector<std::tuple<ShapeScale, double, bool>> cases;
  for (const ShapeScale scale : {ShapeScale::match_rms, ShapeScale::spectral, ShapeScale::rms1, ShapeScale::schatten,
                                 ShapeScale::aspect, ShapeScale::none})
    for (const double p : {0.0, 0.5, -0.25})
      for (const bool squares : {false, true})
        if (scale != ShapeScale::schatten || p >= 0) cases.emplace_back(scale, p, squares);
  return cases;
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Scales, ScalesTogether, testing::ValuesIn(all_cases()), [](const auto& test) {
  const double p = std::get<1>(test.param);
  return fmt::format("{}_{}{}", name_of(std::get<0>(test.param)),
                     p == 0  ? "polar"
                     : p > 0 ? "root"
                             : "inverse",
                     std::get<2>(test.param) ? "_squares" : "");
});
