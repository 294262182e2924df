// Faults that public systems of this kind have had.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "optim/spectral/spectral_power.h"
#include "tests/optim/spectral/spectral_reference.h"

using namespace muonp;
using namespace muonp::optim::spectral;
using namespace muonp::test;
using testing::HasSubstr;

namespace {

struct Choice {
  const char *method, *p;
};
const Choice kChoices[] = {{"coupled_minimax", "0"},  {"coupled_minimax", "1/2"},
                           {"coupled_minimax", "1"},  {"coupled_minimax", "-1/4"},
                           {"newton_schulz5", "0"},   {"polar_express", "0"},
                           {"bivariate", "1/3"},      {"bivariate", "1/2"},
                           {"coupled_newton", "1/2"}, {"svd", "1/2"}};

std::unique_ptr<SpectralPower> make(const Choice& c) {
  SpectralOptions o;
  o.method = c.method;
  o.p = parse_exponent(c.p);
  return make_spectral_power(o);
}

core::Tensor stack(core::Device& device, std::int64_t batch, std::int64_t rows, std::int64_t cols) {
  core::Tensor t = core::Tensor::empty(device, {batch, rows, cols}, core::Dtype::float32, core::Category::other);
  for (std::int64_t b = 0; b < batch; ++b) {
    const Dense g = gaussian(rows, cols, static_cast<std::uint64_t>(b + 1));
    set_values(t[b], std::vector<float>(g.values.begin(), g.values.end()));
  }
  return t;
}

double relative_difference(const core::Tensor& a, const core::Tensor& b, double scale_b = 1) {
  const std::vector<float> of_a = values_of(a), of_b = values_of(b);
  double difference = 0, total = 0;
  for (std::size_t i = 0; i < of_a.size(); ++i) {
    const double x = of_a[i], y = scale_b * of_b[i];
    difference += (x - y) * (x - y);
    total += x * x;
  }
  return std::sqrt(difference / total);
}

std::string failure(core::Device& device, const Choice& c, const core::Tensor& g) {
  try {
    make(c)->apply(device, g, empty_like(device, g));
  } catch (const core::Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST(SpectralBatch, Pitfall09_AStackIsItsMatricesOneByOne) {
  for (int threads : {1, 2, 3}) {
    auto device = test::make_test_device(threads);
    for (auto [rows, cols] : {std::array<std::int64_t, 2>{24, 24}, {40, 16}, {16, 40}})
      for (const Choice& c : kChoices) {
        const core::Tensor g = stack(*device, 4, rows, cols), z = empty_like(*device, g);
        const SpectralReport report = make(c)->apply(*device, g, z);
        ASSERT_EQ(report.scale.size(), 4u);
        double flops = 0;
        for (std::int64_t b = 0; b < 4; ++b) {
          const core::Tensor one = empty_like(*device, g[b]);
          const SpectralReport alone = make(c)->apply(*device, g[b], one);
          EXPECT_LE(relative_difference(one, z[b]), 1e-3) << c.method << " " << c.p;
          EXPECT_NEAR(report.scale[static_cast<std::size_t>(b)], alone.scale[0], 1e-4 * alone.scale[0]);
          flops += alone.flops;
        }
        EXPECT_DOUBLE_EQ(report.flops, flops);
      }
  }
}

// On one thread every product of a batch is the product of the loop. On several, a batch runs its products on one thread
// each and a single matrix runs them on all, and cuBLAS has kernels of its own for batches: equal up to rounding only (the
// test above).
TEST(SpectralBatch, Pitfall20_BitEqualToALoopOnOneThread) {
  if (test::on_real_gpu()) return;
  auto device = test::make_test_device(1);
  for (const Choice& c : kChoices) {
    const core::Tensor g = stack(*device, 3, 40, 24), z = empty_like(*device, g);
    make(c)->apply(*device, g, z);
    for (std::int64_t b = 0; b < 3; ++b) {
      const core::Tensor one = empty_like(*device, g[b]);
      make(c)->apply(*device, g[b], one);
      EXPECT_TRUE(same_bytes(one, z[b])) << c.method << " " << c.p;
    }
  }
}

TEST(SpectralPower, Pitfall20_TwoRunsAreBitEqual) {
  for (int threads : {1, 2}) {
    auto device = test::make_test_device(threads);
    for (const Choice& c : {kChoices[1], kChoices[4]}) {
      const core::Tensor g = stack(*device, 1, 150, 130), z = empty_like(*device, g), again = empty_like(*device, g);
      make(c)->apply(*device, g, z);
      make(c)->apply(*device, g, again);
      EXPECT_TRUE(same_bytes(z, again)) << c.method << " " << c.p;
    }
  }
}

// U Sᵖ Vᵀ of c·G is cᵖ times that of G, up to the rounding of c·G, raised by the power.
TEST(SpectralPower, Pitfall10_ScaleOfTheGradientDoesNotMatter) {
  auto device = test::make_test_device(1);
  const Dense dense = gaussian(40, 30, 1);
  for (const Choice& c : kChoices) {
    const core::Tensor g = to_tensor(*device, dense), z = empty_like(*device, g);
    make(c)->apply(*device, g, z);
    for (double factor : {1e-6, 1e-12, 1e-30, 1e12, 1e30}) {
      const core::Tensor scaled = to_tensor(*device, dense, factor), result = empty_like(*device, g);
      const SpectralReport report = make(c)->apply(*device, scaled, result);
      const double gain = std::pow(factor, parse_exponent(c.p).value());
      EXPECT_LE(relative_difference(z, result, 1 / gain), 2e-3) << c.method << " " << c.p << ", " << factor;
      EXPECT_GT(report.scale[0] / factor, 1) << c.method << ", " << factor;
    }
    // A power of two changes no bit but those of the scale.
    if (c.p == std::string("0")) {
      const core::Tensor scaled = to_tensor(*device, dense, 0x1p-70), result = empty_like(*device, g);
      make(c)->apply(*device, scaled, result);
      EXPECT_TRUE(same_bytes(z, result)) << c.method;
    }
  }
}

TEST(SpectralPower, Pitfall11_AZeroMatrixGivesZero) {
  auto device = test::make_test_device(2);
  for (const Choice& c : kChoices) {
    const core::Tensor g = stack(*device, 3, 20, 30), z = empty_like(*device, g);
    g[1].zero(device->queue());
    fill(z, NAN);
    const SpectralReport report = make(c)->apply(*device, g, z);
    EXPECT_EQ(report.scale[1], 0) << c.method;
    EXPECT_THAT(values_of(z[1]), testing::Each(0.0f)) << c.method;
    for (float x : values_of(z)) ASSERT_TRUE(std::isfinite(x)) << c.method;
    EXPECT_GT(report.scale[2], 0);
    g.zero(device->queue());
    EXPECT_EQ(make(c)->apply(*device, g, z).predicted_error, 0);
  }
}

TEST(SpectralPower, Pitfall08_EmptyMatricesAreAllowed) {
  auto device = test::make_test_device(1);
  for (const Choice& c : kChoices)
    for (core::Shape shape : {core::Shape{0, 5}, {5, 0}, {0, 3, 4}, {2, 0, 4}}) {
      const core::Tensor g = core::Tensor::zeros(*device, shape, core::Dtype::float32, core::Category::other);
      EXPECT_EQ(make(c)->apply(*device, g, empty_like(*device, g)).flops, 0) << c.method;
    }
}

TEST(SpectralPower, Pitfall13_NonFiniteEntriesAreNamed) {
  auto device = test::make_test_device(2);
  for (const Choice& c : kChoices)
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      const core::Tensor g = stack(*device, 3, 7, 5);
      set_value(g[2], 3 * 5 + 4, bad);
      EXPECT_THAT(failure(*device, c, g),
                  testing::AllOf(HasSubstr("matrix 2 of 3"), HasSubstr("row 3, column 4"), HasSubstr("finite")))
          << c.method << ", " << bad;
    }
}

TEST(Bivariate, Pitfall15_DivergenceNearRankOneIsDetectedAndNamed) {
  auto device = test::make_test_device(1);
  const Choice half{"bivariate", "1/2"};
  for (double largest : {0.8, 0.9, 0.99, 0.995}) {  // of ‖G‖_F; the rest spread evenly
    Factors f = known_factors("flat", 40, 24);
    for (std::size_t i = 1; i < f.s.size(); ++i) f.s[i] = std::sqrt((1 - largest * largest) / 23);
    f.s[0] = largest;
    const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; }));
    const std::string why = failure(*device, half, g);
    EXPECT_THAT(why, testing::AllOf(HasSubstr("bivariate at p = 1/2"), HasSubstr("diverged"), HasSubstr("matrix 0 of 1"),
                                    HasSubstr("coupled_minimax")))
        << largest;
    const core::Tensor z = empty_like(*device, g);
    make({"coupled_minimax", "1/2"})->apply(*device, g, z);
    EXPECT_LE(errors_of(z, f, 0.5).singular_value, 0.01) << largest;
  }
  EXPECT_EQ(failure(*device, half, to_tensor(*device, gaussian(40, 24, 1))), "");
}

TEST(SpectralPower, Pitfall16_TheInputIsUnchanged) {
  for (int threads : {1, 2}) {
    auto device = test::make_test_device(threads);
    for (auto [rows, cols] : {std::array<std::int64_t, 2>{30, 30}, {64, 20}, {20, 64}})
      for (const Choice& c : kChoices) {
        const core::Tensor g = stack(*device, 2, rows, cols);
        const std::string before = bytes_of(g);
        make(c)->apply(*device, g, empty_like(*device, g));
        EXPECT_EQ(bytes_of(g), before) << c.method;
      }
  }
}

TEST(CoupledMinimax, ExponentOneIsTheMatrixItself) {
  auto device = test::make_test_device(1);
  const core::Tensor g = stack(*device, 2, 13, 17), z = empty_like(*device, g);
  const SpectralReport report = make({"coupled_minimax", "1"})->apply(*device, g, z);
  EXPECT_TRUE(same_bytes(g, z));
  EXPECT_EQ(report.steps, 0);
  EXPECT_EQ(report.predicted_error, 0);
}
