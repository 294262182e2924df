// Figures of spectra against decompositions in double precision.
#include "optim/spectral/spectrum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/device/lapack.h"
#include "optim/spectral/eigenvalues.h"
#include "tests/optim/spectral/spectral_reference.h"

using namespace muonp;
using namespace muonp::test;
using namespace muonp::optim::spectral;
using core::MatrixView;

namespace {

// The definitions of docs/diagnostics.md, from singular values in descending order.
struct Wanted {
  double norm = 0, stable = 0, effective = 0, nuclear = 0;
  std::vector<double> quantiles;
  explicit Wanted(std::vector<double> s) {
    double squares = 0, entropy = 0;
    for (const double x : s) squares += x * x;
    for (const double x : s)
      if (x > 0) entropy -= x * x / squares * std::log(x * x / squares);
    norm = std::sqrt(squares);
    stable = squares / (s[0] * s[0]);
    effective = std::exp(entropy);
    nuclear = std::accumulate(s.begin(), s.end(), 0.0) / norm;
    std::reverse(s.begin(), s.end());
    for (const double q : {0.0, 0.1, 0.5, 0.9, 1.0}) {
      const double place = q * static_cast<double>(s.size() - 1);
      const auto i = static_cast<std::size_t>(place);
      const double next = i + 1 < s.size() ? s[i + 1] : s[i];
      quantiles.push_back(s[i] + (place - static_cast<double>(i)) * (next - s[i]));
    }
  }
};

// Weyl: eigenvalues of the Gram matrix move by no more than the norm of what was added to it, which rounding in float32
// makes this much of the largest.
double moved(std::int64_t n) { return 4 * std::sqrt(static_cast<double>(n)) * 0x1p-24; }

// By how much a singular value may be off: what has moved, and what counts as zero below the resolution.
double tolerance(double sigma, double largest, std::int64_t n) {
  const double least = kResolution * std::pow(static_cast<double>(n), 0.25) * largest;
  return sigma < 2 * least ? 2 * least : moved(n) * largest * largest / sigma;
}

Spectrum measure(core::Device& device, const core::Tensor& a) {
  const Measured all{MatrixView(a), MatrixView(a), MatrixView(a)};
  const Spectra spectra = measure_spectra(device, {&all, 1}).front();
  EXPECT_EQ(spectra.momentum->sigma, spectra.weight->sigma);
  return spectra.update.value();
}

void expect_figures(const Spectrum& found, const std::vector<double>& s) {
  const Wanted wanted(s);
  const std::int64_t n = std::ssize(s);
  double of_sum = 0, of_entropy = 0;
  for (const double x : s) {
    const double off = tolerance(x, s[0], n), share = std::min(1.0, (2 * x + off) * off / (wanted.norm * wanted.norm));
    of_sum += off;
    of_entropy += share * (1 - std::log(share));
  }
  EXPECT_NEAR(found.norm, wanted.norm, 1e-6 * wanted.norm);
  EXPECT_NEAR(found.stable_rank, wanted.stable, 3 * moved(n) * wanted.stable);
  EXPECT_NEAR(found.nuclear_ratio, wanted.nuclear, of_sum / wanted.norm);
  EXPECT_NEAR(std::log(found.effective_rank), std::log(wanted.effective), of_entropy);
  for (std::size_t i = 0; i < wanted.quantiles.size(); ++i) {
    const auto above = static_cast<std::size_t>((1 - kQuantiles[i]) * static_cast<double>(n - 1));  // in descending order
    const double lower = s[std::min(above + 1, s.size() - 1)];
    EXPECT_NEAR(found.sigma[i], wanted.quantiles[i], std::max(tolerance(s[above], s[0], n), tolerance(lower, s[0], n)))
        << kQuantiles[i];
  }
}

}  // namespace

TEST(Spectrum, IsThatOfADecompositionForEveryShapeAndSpectrum) {
  const auto device = make_test_device();
  for (const auto& [rows, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {1, 9}, {9, 1}, {2, 2}, {7, 7}, {33, 33}, {64, 20}, {20, 64}, {130, 97}, {48, 192}, {160, 160}})
    for (const std::string kind : {"gaussian", "flat", "geometric", "harmonic", "linear", "two values", "low rank"}) {
      SCOPED_TRACE(fmt::format("{} {} x {}", kind, rows, cols));
      const Factors f = known_factors(kind, rows, cols, 3);
      const Dense a = compose(f, [](double sigma) { return sigma; });
      expect_figures(measure(*device, to_tensor(*device, a)), f.s);
    }
}

TEST(Spectrum, OfWhatHasOneDirectionIsOne) {
  const auto device = make_test_device();
  Dense outer(40, 30);
  for (std::int64_t i = 0; i < 40; ++i)
    for (std::int64_t j = 0; j < 30; ++j)
      outer(i, j) = std::sin(1.0 + 3.0 * static_cast<double>(i)) * std::cos(2.0 * static_cast<double>(j));
  const Spectrum s = measure(*device, to_tensor(*device, outer));
  EXPECT_NEAR(s.stable_rank, 1, moved(30));
  EXPECT_NEAR(s.effective_rank, 1, 30 * moved(30));
  EXPECT_NEAR(s.nuclear_ratio, 1, moved(30));
  EXPECT_EQ(s.sigma[0], 0);
  EXPECT_EQ(s.sigma[3], 0);
}

TEST(Spectrum, OfZeroAndOfNothingIsZero) {
  const auto device = make_test_device();
  for (const core::Shape& shape : std::vector<core::Shape>{{3, 5}, {1, 1}, {0, 4}, {4, 0}}) {
    const core::Tensor zero = core::Tensor::zeros(*device, shape, core::Dtype::float32, core::Category::other);
    const Measured all{MatrixView(zero), MatrixView(zero), MatrixView(zero)};
    const Spectra spectra = measure_spectra(*device, {&all, 1}).front();
    for (const auto& s : {spectra.momentum, spectra.update, spectra.weight}) {
      for (const double value : {s->norm, s->stable_rank, s->effective_rank, s->nuclear_ratio}) EXPECT_EQ(value, 0);
      for (const double sigma : s->sigma) EXPECT_EQ(sigma, 0);
    }
    EXPECT_EQ(spectra.alignment->cosine, 0);
    EXPECT_EQ(spectra.alignment->gram, 0);
  }
}

TEST(Spectrum, HasNoSizeOfItsOwn) {
  const auto device = make_test_device();
  const Dense a = gaussian(48, 31, 5);
  const Spectrum one = measure(*device, to_tensor(*device, a));
  for (const double scale : {0x1p-90, 0x1p-30, 0x1p90}) {
    const Spectrum s = measure(*device, to_tensor(*device, a, scale));
    EXPECT_NEAR(s.norm, scale * one.norm, 1e-6 * scale * one.norm);
    EXPECT_NEAR(s.stable_rank, one.stable_rank, 3 * moved(31) * one.stable_rank);
    EXPECT_NEAR(s.sigma[2], scale * one.sigma[2], 2 * scale * tolerance(one.sigma[2], one.sigma[4], 31));
  }
}

TEST(Spectrum, OfAMatrixThatIsNotFiniteIsNone) {
  const auto device = make_test_device();
  const core::Tensor good = to_tensor(*device, gaussian(6, 4, 1)), bad = to_tensor(*device, gaussian(6, 4, 2));
  for (const float value : {INFINITY, NAN}) {
    set_value(bad, 5, value);
    const std::vector<Measured> all = {{MatrixView(good), MatrixView(good), MatrixView(bad)},
                                       {MatrixView(good), MatrixView(good), MatrixView(good)}};
    const std::vector<Spectra> spectra = measure_spectra(*device, all);
    EXPECT_FALSE(spectra[0].weight || spectra[0].alignment);
    EXPECT_EQ(spectra[0].momentum->sigma, spectra[1].momentum->sigma);
    EXPECT_TRUE(spectra[1].weight && spectra[1].alignment);
  }
}

namespace {

double correlation(const Dense& a, const Dense& b) {  // of Gram matrices of the smaller side, by the definition
  const bool wide = a.rows < a.cols;
  const std::int64_t n = std::min(a.rows, a.cols), k = std::max(a.rows, a.cols);
  const auto gram = [&](const Dense& x) {
    Dense g(n, n);
    double trace = 0;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t l = 0; l < k; ++l) g(i, j) += wide ? x(i, l) * x(j, l) : x(l, i) * x(l, j);
    for (std::int64_t i = 0; i < n; ++i) trace += g(i, i);
    for (std::int64_t i = 0; i < n; ++i) g(i, i) -= trace / static_cast<double>(n);
    return g;
  };
  const auto inner = [](const Dense& x, const Dense& y) {
    return std::inner_product(x.values.begin(), x.values.end(), y.values.begin(), 0.0);
  };
  const Dense x = gram(a), y = gram(b);
  return inner(x, y) / std::sqrt(inner(x, x) * inner(y, y));
}

optim::spectral::Alignment aligned(core::Device& device, const Dense& n, const Dense& w) {
  const core::Tensor a = to_tensor(device, n), b = to_tensor(device, w);
  const Measured all{MatrixView(a), MatrixView(a), MatrixView(b)};
  return measure_spectra(device, {&all, 1}).front().alignment.value();
}

}  // namespace

TEST(Alignment, IsOneWithItselfAndFollowsItsDefinition) {
  const auto device = make_test_device();
  for (const auto& [rows, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{{40, 24}, {24, 40}, {32, 32}}) {
    const Dense n = compose(known_factors("harmonic", rows, cols, 1), [](double s) { return s; });
    const Dense w = compose(known_factors("linear", rows, cols, 7), [](double s) { return s; });
    Dense mixed = n;
    for (std::size_t i = 0; i < mixed.values.size(); ++i) mixed.values[i] = 0.5 * w.values[i] - n.values[i];
    EXPECT_NEAR(aligned(*device, n, n).cosine, 1, 1e-6);
    EXPECT_NEAR(aligned(*device, n, n).gram, 1, 1e-5);
    for (const Dense& other : {w, mixed}) {
      const auto norm = [](const Dense& x) { return Wanted(decompose(x).s).norm; };
      const double inner = std::inner_product(n.values.begin(), n.values.end(), other.values.begin(), 0.0);
      EXPECT_NEAR(aligned(*device, n, other).cosine, inner / norm(n) / norm(other), 1e-6);
      EXPECT_NEAR(aligned(*device, n, other).gram, correlation(n, other), 1e-4);
    }
  }
}

TEST(Alignment, OfWhatLeadsNowhereIsZero) {
  const auto device = make_test_device();
  const Dense flat = compose(known_factors("flat", 20, 12), [](double s) { return s; }), other = gaussian(20, 12, 3);
  EXPECT_EQ(aligned(*device, flat, other).gram, 0);
  EXPECT_EQ(aligned(*device, other, flat).gram, 0);
  EXPECT_EQ(aligned(*device, gaussian(1, 9, 1), gaussian(1, 9, 2)).gram, 0);
}

// Matrices of many shapes at once, some of them parts of wider ones.
TEST(Spectrum, TogetherIsAsAlone) {
  const auto device = make_test_device();
  std::vector<core::Tensor> tensors;
  std::vector<Measured> all;
  for (const auto& [rows, cols] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{8, 24}, {30, 8}, {8, 8}, {5, 12}, {12, 5}}) {
    tensors.push_back(to_tensor(*device, gaussian(rows, 2 * cols, 10 + static_cast<std::uint64_t>(rows))));
    const MatrixView whole(tensors.back());
    all.push_back({whole.block(0, 0, rows, cols), whole.block(0, cols, rows, cols), whole.block(0, 1, rows, cols)});
  }
  const std::vector<Spectra> together = measure_spectra(*device, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Spectra alone = measure_spectra(*device, {&all[i], 1}).front();
    EXPECT_EQ(together[i].momentum->sigma, alone.momentum->sigma);
    EXPECT_EQ(together[i].update->sigma, alone.update->sigma);
    EXPECT_EQ(together[i].weight->sigma, alone.weight->sigma);
    EXPECT_EQ(together[i].alignment->gram, alone.alignment->gram);
    const core::Tensor& t = tensors[i];
    Dense part(t.dim(0), t.dim(1) / 2);
    for (std::int64_t r = 0; r < part.rows; ++r)
      for (std::int64_t c = 0; c < part.cols; ++c) part(r, c) = value_of(t, r * t.dim(1) + part.cols + c);
    expect_figures(*together[i].update, decompose(part).s);
  }
}

TEST(Spectrum, TakesNoMoreMemoryThanItSays) {
  for (const double scale : {1.0, 0x1p-80}) {
    const auto device = make_test_device();
    std::vector<core::Tensor> tensors;
    std::vector<Measured> all;
    for (const auto& [rows, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{{70, 40}, {40, 90}, {64, 64}}) {
      tensors.push_back(to_tensor(*device, gaussian(rows, cols, 1), scale));
      all.push_back({MatrixView(tensors.back()), MatrixView(tensors.back()), MatrixView(tensors.back())});
    }
    measure_spectra(*device, all);
    const std::int64_t used = device->allocator()->use().peak_of(core::Category::exchange);
    EXPECT_LE(used, spectra_bytes(all, device->kind()));
    EXPECT_GE(used, spectra_bytes(all, device->kind()) / 2);
  }
}

// Golub and Van Loan's bound for backward stable reductions has n, what is seen √n (docs/diagnostics.md). A CPU's tasks have
// 256 rows, its panels 16 and a GPU's lanes 64 eigenvalues.
TEST(SymmetricEigenvalues, AreThoseOfDoublePrecisionForEverySize) {
  const auto device = make_test_device();
  for (const std::int64_t n : {1, 2, 3, 15, 16, 17, 33, 64, 65, 129, 257, 300}) {
    if (n > 150 && on_gpu()) continue;  // the stand-in has a thread for each lane
    for (const bool decaying : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", n, decaying));
      Dense x = gaussian(n, n, 7);
      for (std::int64_t i = 0; i < n && decaying; ++i)
        for (std::int64_t j = 0; j < n; ++j) x(i, j) /= static_cast<double>((i + 1) * (i + 1));
      double trace = 0;
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) trace += x(i, j) * x(i, j);
      Dense a(n, n);
      std::vector<double> gram(static_cast<std::size_t>(n * n)), wanted(static_cast<std::size_t>(n));
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = 0;
          for (std::int64_t k = 0; k < n; ++k) sum += x(i, k) * x(j, k);
          const auto rounded = static_cast<float>(sum / trace);
          a(i, j) = gram[static_cast<std::size_t>(i * n + j)] = rounded;
        }
      ASSERT_EQ(core::lapack::dsyev_values(static_cast<int>(n), gram.data(), wanted.data()), 0);
      const core::Tensor tensor = to_tensor(*device, a);
      const std::vector<float> found = symmetric_eigenvalues(device->queue(), 1, {MatrixView(tensor)});
      ASSERT_EQ(std::ssize(found), n);
      for (std::size_t i = 0; i < found.size(); ++i)
        EXPECT_NEAR(found[i], std::max(wanted[i], 0.0), std::sqrt(static_cast<double>(n)) * 0x1p-23 * wanted.back()) << i;
    }
  }
}

TEST(SymmetricEigenvalues, ManyThreadsGiveTheBitsOfOne) {  // on a GPU: two runs give the same bits
  const std::int64_t kSize = on_gpu() ? 150 : 600;
  Dense a = gaussian(kSize, kSize, 4);
  for (std::int64_t i = 0; i < kSize; ++i)
    for (std::int64_t j = 0; j <= i; ++j) a(i, j) = a(j, i) = a(i, j) / 100 + (i == j ? 0.5 : 0);
  std::vector<std::vector<float>> found;
  for (const int threads : {1, 3}) {
    const auto device = make_test_device(threads);
    const core::Tensor tensor = to_tensor(*device, a);
    found.push_back(symmetric_eigenvalues(device->queue(), 1, {MatrixView(tensor)}));
  }
  EXPECT_EQ(found[0], found[1]);
}
