// p: adaptive against a second implementation, on spectra whose best exponent is known, and step by step.
#include "optim/rules/adaptive_exponent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "optim/rules/adaptive_step.h"
#include "optim/spectral/singular_values.h"
#include "tests/reference/adaptive.h"

using namespace muonp;
using namespace muonp::optim;
using oracle::Doubles;
using spectral::Exponent;
using testing::ElementsAre;

namespace {

const std::vector<Exponent> kCandidates = {{0, 1}, {1, 4}, {1, 2}, {3, 4}, {1, 1}};
const Doubles kValues = {0, 0.25, 0.5, 0.75, 1};

double best(const Doubles& sigma, std::int64_t m, std::int64_t n, double curvature = 1) {
  return best_exponent(sigma, m, n, kCandidates, curvature).value();
}

// Singular values `signal`, in random directions, and noise of this standard deviation.
Doubles with_noise(const Doubles& signal, std::int64_t m, std::int64_t n, double deviation, std::uint64_t stream) {
  Doubles s = signal;
  s.resize(static_cast<std::size_t>(std::min(m, n)), 0.0);
  Doubles a = oracle::compose(oracle::svd(oracle::random(m * n, stream), m, n), s);
  const Doubles noise = oracle::random(m * n, stream + 1000);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += deviation * noise[i];
  return a;
}

Doubles spectrum(const Doubles& a, std::int64_t m, std::int64_t n) { return oracle::svd(a, m, n).s; }

}  // namespace

TEST(SingularValues, AreThoseOfTheDecomposition) {
  const test::TestDevice device = test::make_test_device(2);
  for (const auto& [m, n] : {std::pair(40l, 17l), {17l, 40l}, {23l, 23l}, {1l, 9l}, {9l, 1l}}) {
    const Doubles a = oracle::random(m * n, 3);
    std::vector<float> padded(static_cast<std::size_t>(m * (n + 5)), NAN);
    Doubles rounded(a.size());
    for (std::int64_t i = 0; i < m * n; ++i) {
      padded[static_cast<std::size_t>(i / n * (n + 5) + i % n)] = static_cast<float>(a[i]);
      rounded[i] = static_cast<float>(a[i]);
    }
    const HostMatrix matrix[] = {{padded.data(), m, n, n + 5}, {padded.data(), m, n, n + 5}};
    const Doubles expected = spectrum(rounded, m, n), found = singular_values(device->queue(), matrix)[1];
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 2e-8 * expected[0]) << m << " " << i;
  }
  const HostMatrix none[] = {{nullptr, 0, 3, 3}};
  EXPECT_TRUE(singular_values(device->queue(), none)[0].empty());
}

TEST(AdaptiveExponent, TheMedianOfTheLawIsThatOfItsDensity) {
  for (const double ratio : {1.0, 0.99, 0.5, 0.25, 0.1, 0.01})
    EXPECT_NEAR(marchenko_pastur_median(ratio), reference::marchenko_pastur_median(ratio), 2e-5) << ratio;
  // Gavish and Donoho's coefficient of the median, 2.858 for square matrices, is 4/√3 over its root.
  EXPECT_NEAR(4 / std::sqrt(3.0) / std::sqrt(marchenko_pastur_median(1)), 2.858, 5e-4);
}

TEST(AdaptiveExponent, NoiseIsMeasuredBesideASignalOfFewDirections) {
  for (const auto& [m, n] : {std::pair(96l, 96l), {192l, 64l}, {64l, 192l}})
    for (const double deviation : {0.01, 1.0}) {
      const double edge = deviation * (std::sqrt(static_cast<double>(m)) + std::sqrt(static_cast<double>(n)));
      const Doubles truth = {9 * edge, 5 * edge, 3 * edge};
      const Doubles sigma = spectrum(with_noise(truth, m, n, deviation, 5), m, n);
      const double v = noise_variance(sigma, m, n);
      EXPECT_NEAR(std::sqrt(v), deviation, 0.05 * deviation);
      // What the noise leaves of each direction: their product with the measured directions.
      const std::vector<double> signal = signal_of(sigma, v, m, n);
      for (int i = 0; i < 3; ++i) {
        EXPECT_LT(signal[i], sigma[i]);
        EXPECT_NEAR(signal[i], truth[i], 0.1 * truth[i]);
      }
      for (std::size_t i = 5; i < signal.size(); ++i) EXPECT_NEAR(signal[i], 0, 0.4 * edge) << i;
    }
}

TEST(AdaptiveExponent, TheSignalIsTheProductOfGradientAndMeasuredDirections) {
  const std::int64_t m = 120, n = 80;
  const double edge = std::sqrt(120.0) + std::sqrt(80.0);
  const Doubles truth = with_noise({4 * edge, 2 * edge}, m, n, 0, 9), noisy = with_noise({4 * edge, 2 * edge}, m, n, 1, 9);
  const oracle::Svd d = oracle::svd(noisy, m, n);
  const std::vector<double> signal = signal_of(d.s, noise_variance(d.s, m, n), m, n);
  for (std::int64_t i = 0; i < 2; ++i) {
    double product = 0;
    for (std::int64_t r = 0; r < m; ++r)
      for (std::int64_t c = 0; c < n; ++c) product += truth[r * n + c] * d.u[r * n + i] * d.vt[i * n + c];
    EXPECT_NEAR(signal[i], product, 4) << "both move with the noise, by about its deviation of 1";
  }
}

TEST(AdaptiveExponent, KnownSpectraHaveTheExponentOfTheFormula) {
  // Without noise, as half of the singular values are zero, the best power of curvature σ^c is σ^(1 − c).
  Doubles low_rank;
  for (int i = 0; i < 30; ++i) low_rank.push_back(i < 12 ? std::pow(0.7, i) : 0.0);
  for (const auto& [curvature, p] : {std::pair(1.0, 0.0), {0.75, 0.25}, {0.5, 0.5}, {0.25, 0.75}, {0.0, 1.0}, {2.0, 0.0}})
    EXPECT_EQ(best(low_rank, 40, 30, curvature), p) << curvature;
  // Nothing but noise, or a flat spectrum, which looks like it: the largest.
  EXPECT_EQ(best(Doubles(30, 2.0), 40, 30), 1);
  EXPECT_EQ(best({3}, 1, 9), 1);
  EXPECT_EQ(best({0, 0}, 2, 2), 1);
  EXPECT_EQ(best({}, 0, 3), 1);
  // In curvature of 1 the best power rises with the noise.
  const Doubles signal = {40, 28, 20, 14, 10, 7, 5};
  std::vector<double> chosen;
  for (const double deviation : {0.0, 0.01, 0.1, 0.3, 1.0})
    chosen.push_back(best(spectrum(with_noise(signal, 60, 40, deviation, 7), 60, 40), 60, 40));
  EXPECT_TRUE(std::ranges::is_sorted(chosen)) << testing::PrintToString(chosen);
  EXPECT_EQ(chosen.front(), 0);
  EXPECT_GT(chosen.back(), 0);
}

TEST(AdaptiveExponent, AgreesWithTheReferenceOnAnySpectrum) {
  std::map<double, int> seen;
  for (std::uint64_t stream = 0; stream < 60; ++stream) {
    const std::int64_t m = 20 + static_cast<std::int64_t>(stream % 7) * 8, n = 30;
    Doubles signal;
    for (int i = 0; i < 12; ++i) signal.push_back(30 * std::pow(0.5 + 0.04 * static_cast<double>(stream % 11), i));
    const double deviation = std::pow(10.0, -2 + 0.5 * static_cast<double>(stream % 5));
    for (const double curvature : {0.5, 1.0}) {
      const Doubles sigma = spectrum(with_noise(signal, m, n, deviation, stream), m, n);
      const double p = best(sigma, m, n, curvature);
      EXPECT_EQ(p, reference::best_exponent(sigma, m, n, kValues, curvature)) << stream;
      Doubles larger = sigma;
      for (double& s : larger) s *= 1e20;
      EXPECT_EQ(best(larger, m, n, curvature), p) << "the size of the momentum does not matter";
      ++seen[p];
    }
  }
  EXPECT_GE(seen.size(), 3u);
}

namespace {

class AdaptiveStepTest : public testing::Test {
 protected:
  test::TestDevice device = test::make_test_device(2);
  const spectral::SpectralOptions options{.method = "svd"};
  const AdaptiveSettings settings{.candidates = kCandidates, .every = 2, .smoothing = 0.5, .curvature = 1};

  core::Tensor floats(const Doubles& values) { return oracle::tensor(*device, values); }
  AdaptiveStep make() {
    return {std::make_unique<SpectralStep>(options, settings.candidates, ShapeScale::match_rms), settings};
  }
  MatrixInput input(core::Shape shape, const Doubles& values, std::size_t matrices, const Split* split = nullptr) {
    return {.name = "w",
            .shape = std::move(shape),
            .split = split,
            .in = floats(values),
            .out = floats(Doubles(values.size(), NAN)),
            .states = {floats(Doubles(matrices, 0.0)), floats(Doubles(matrices, 0.0))}};
  }
  Doubles power(const Doubles& a, std::int64_t m, std::int64_t n, double p) {
    Doubles z = oracle::spectral_power(a, m, n, p);
    const double factor = 0.2 * std::sqrt(static_cast<double>(m * n)) / oracle::norm(z);
    for (double& x : z) x *= factor;
    return z;
  }
};

Doubles joined(std::initializer_list<Doubles> parts) {
  Doubles all;
  for (const Doubles& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

TEST_F(AdaptiveStepTest, EachMatrixOfAStackHasItsOwnExponentAndScale) {
  const std::int64_t m = 24, n = 16;
  const Doubles clean = with_noise({8, 4, 2, 1}, m, n, 0, 1), noisy = with_noise({8, 4, 2, 1}, m, n, 0.1, 2),
                noise = with_noise({}, m, n, 1, 3);
  AdaptiveStep step = make();
  const MatrixInput stack = input({4, m, n}, joined({noise, clean, noise, noisy}), 4);
  const MatrixInput alone = input({m, n}, clean, 1);
  step.compute(*device, 1, std::vector{stack, alone});
  const Doubles p = oracle::doubles(stack.states[0]);
  EXPECT_EQ(p[0], 1);
  EXPECT_EQ(p[1], 0);
  EXPECT_EQ(p[2], 1);
  EXPECT_EQ(p[3], best(spectrum(noisy, m, n), m, n));
  EXPECT_EQ(oracle::doubles(alone.states[0]), Doubles{0});
  const Doubles out = oracle::doubles(stack.out);
  const Doubles* matrices[] = {&noise, &clean, &noise, &noisy};
  for (int i = 0; i < 4; ++i) {
    const Doubles one(out.begin() + i * m * n, out.begin() + (i + 1) * m * n);
    EXPECT_LT(oracle::relative_difference(one, power(*matrices[i], m, n, p[i])), 1e-5) << i;
  }
  EXPECT_LT(oracle::relative_difference(oracle::doubles(alone.out), power(clean, m, n, 0)), 1e-5);
}

TEST_F(AdaptiveStepTest, PartsOfSeveralSizesAndColumnsHaveTheirOwn) {
  const Split rows{.name = "qkv", .parts = {"q", "k"}, .sizes = {18, 6}},
      columns{.name = "gate", .columns = true, .parts = {"a", "b"}};
  AdaptiveStep step = make();
  const Doubles q = with_noise({}, 18, 12, 1, 4), k = with_noise({5, 1}, 6, 12, 0, 5);
  const MatrixInput fused = input({24, 12}, joined({q, k}), 2, &rows);
  step.compute(*device, 1, std::vector{fused});
  EXPECT_THAT(oracle::doubles(fused.states[0]), ElementsAre(1, 0));
  EXPECT_LT(oracle::relative_difference(oracle::doubles(fused.out), joined({power(q, 18, 12, 1), power(k, 6, 12, 0)})),
            1e-5);
  Doubles beside;  // columns 0 to 5 of k, then 6 to 11 of noise
  for (int r = 0; r < 6; ++r)
    for (int c = 0; c < 12; ++c) beside.push_back(c < 6 ? k[r * 12 + c] : q[r * 12 + c]);
  const MatrixInput side = input({6, 12}, beside, 2, &columns);
  step.compute(*device, 1, std::vector{side});
  Doubles left, right;
  for (int r = 0; r < 6; ++r)
    for (int c = 0; c < 12; ++c) (c < 6 ? left : right).push_back(beside[r * 12 + c]);
  EXPECT_THAT(oracle::doubles(side.states[0]),
              ElementsAre(best(spectrum(left, 6, 6), 6, 6), best(spectrum(right, 6, 6), 6, 6)));
}

TEST_F(AdaptiveStepTest, ChoosesAgainEverySoManyStepsAndSmooths) {
  const std::int64_t m = 24, n = 16;
  const Doubles clean = with_noise({8, 4, 2, 1}, m, n, 0, 1), noise = with_noise({}, m, n, 1, 3);
  AdaptiveStep step = make();
  MatrixInput w = input({m, n}, clean, 1);
  const auto after = [&](std::int64_t t, const Doubles& values) {
    w.in = floats(values);
    step.compute(*device, t, std::vector{w});
    return std::pair(oracle::doubles(w.states[0])[0], oracle::doubles(w.states[1])[0]);
  };
  EXPECT_EQ(after(1, clean), std::pair(0.0, 0.0));
  EXPECT_EQ(after(2, noise), std::pair(0.0, 0.0));  // no choice in this step
  EXPECT_EQ(after(3, noise), std::pair(0.5, 0.5));  // half of 0, half of 1
  EXPECT_EQ(after(4, clean), std::pair(0.5, 0.5));
  EXPECT_EQ(after(5, noise), std::pair(0.75, 0.75));
  EXPECT_EQ(after(7, noise), std::pair(0.75, 0.875));  // of two as near the first
  AdaptiveStep another = make();                       // what is chosen is state of the owner, and nothing else
  w.in = floats(noise);
  another.compute(*device, 8, std::vector{w});
  EXPECT_LT(oracle::relative_difference(oracle::doubles(w.out), power(noise, m, n, 0.75)), 1e-5);
}

// Of one thread: more of them take small matrices of a batch side by side.
TEST_F(AdaptiveStepTest, ScratchMemoryIsPlannedForAnyExponents) {
  device = test::make_test_device(1);
  AdaptiveStep step = make();
  const std::vector<MatrixInput> inputs = {input({4, 24, 16}, oracle::random(4 * 24 * 16, 6), 4),
                                           input({24, 16}, oracle::random(24 * 16, 7), 1)};
  const auto use = [&] { return device->allocator()->use(); };
  const std::int64_t before = use().live_total;
  device->allocator()->reset_peak();
  step.compute(*device, 1, inputs);
  EXPECT_LE(use().peak_total - before, step.workspace_bytes(inputs));
}
