// Compressors against references in double precision: what they send, byte for byte, and how much they keep.
#include "dist/compression/compressor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "dist/compression/sparse_index.h"
#include "tests/support/test_device.h"

using namespace muonp;
using namespace muonp::dist;
using namespace muonp::test;
using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

using Values = std::vector<float>;

const std::vector<std::string> kAll = {
    "identity", "top_k 0.1", "top_k 1", "top_k_natural 0.03", "natural", "sign", "int8", "int5", "int4", "int3",
    "int2",     "rank 1",    "rank 4"};

struct Sent {
  std::vector<std::uint8_t> bytes;
  Values received;  // by a receiver that has only the bytes
};

class Channel {
 public:
  Channel(core::Device& device, const std::string& spec, std::int64_t rows, std::int64_t cols)
      : device_(device), compressor_(make_compressor(parse_compressor(spec), rows, cols)) {
    state_ = Tensor::zeros(device, {compressor_->state_elements()}, Dtype::float32, Category::optimizer);
  }
  const Compressor& compressor() const { return *compressor_; }

  Sent send(const Values& x, const CompressionKey& key = {7, 3, 1}) {
    const std::int64_t bytes = compressor_->wire_bytes();
    const Tensor in = Tensor::empty(device_, {compressor_->size()}, Dtype::float32, Category::other);
    const Tensor out = Tensor::empty(device_, {compressor_->size()}, Dtype::float32, Category::other);
    const Tensor buffer = Tensor::empty(device_, {bytes + 16}, Dtype::uint8, Category::other);
    set_values(in, x);
    fill<std::uint8_t>(buffer, 0xa5);
    compressor_->encode(device_, in, state_, key, buffer.flat(0, bytes));
    EXPECT_EQ(bytes_of(buffer.flat(bytes, 16)), std::string(16, '\xa5')) << "written past its end";
    EXPECT_EQ(values_of(in), x) << "encode() changed its input";
    compressor_->decode(device_, buffer.flat(0, bytes), 1, false, out);
    return {values_of<std::uint8_t>(buffer.flat(0, bytes)), values_of(out)};
  }

 private:
  core::Device& device_;
  std::unique_ptr<Compressor> compressor_;
  Tensor state_;
};

double square(const Values& x) {
  return std::accumulate(x.begin(), x.end(), 0.0, [](double sum, double v) { return sum + v * v; });
}

Values difference(const Values& a, const Values& b) {
  Values d(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) d[i] = a[i] - b[i];
  return d;
}

double squared_distance(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    sum += d * d;
  }
  return sum;
}

// Matrix number `n`: the first of every ten are made to be hard, the others random.
Values matrix(int n, std::int64_t rows, std::int64_t cols) {
  std::mt19937 random(static_cast<unsigned>(n));
  std::normal_distribution<float> normal;
  Values x(static_cast<std::size_t>(rows * cols));
  const auto each = [&](auto f) {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c) x[std::size_t(r * cols + c)] = static_cast<float>(f(r, c));
  };
  const int kind = n % 20 == 0 ? n / 20 % 15 : 20;
  switch (kind) {
    case 0:
      each([](auto, auto) { return 1; });
      break;  // all tie
    case 1:
      each([](auto, auto) { return 1.5; });
      break;  // between two powers
    case 2:
      x[x.size() / 2] = -3;
      break;  // one entry
    case 3:
      break;  // zero
    case 4:
      each([](auto r, auto c) { return std::pow(0.9, r + c); });
      break;  // rank one, decaying
    case 5:
      each([](auto r, auto c) { return r == c ? 1 : 0; });
      break;  // no direction stands out
    case 6:
      each([&](auto, auto) { return 1e-30f * normal(random); });
      break;  // squares underflow
    case 7:
      each([&](auto, auto) { return 1e30f * normal(random); });
      break;  // squares overflow
    case 8:
      each([&](auto, auto) { return random() % 2 ? 1 : -1; });
      break;  // signs
    case 9:
      each([](auto r, auto c) { return (r * 31 + c) % 97 == 0 ? 1e6 : 1e-6; });
      break;  // far apart
    case 10:
      each([](auto, auto c) { return c == 0 ? 100 : 0.5; });
      break;  // one column
    case 11:
      each([&](auto r, auto) { return r == 0 ? normal(random) : 0; });
      break;  // one row
    case 12:
      each([&](auto, auto) { return 1e-42f * normal(random); });
      break;  // subnormal
    case 13:
      each([&](auto r, auto c) { return (r + c) % 2 ? 2.0000001 : -0.74999994; });
      break;
    case 14:
      each([](auto r, auto c) { return r + c == 0 ? 30 : 1; });
      break;  // int5 loses all it may
    default: {
      const float spread = static_cast<float>(n % 7);  // heavier tails as it grows
      each([&](auto, auto) { return normal(random) * std::exp(spread * 0.5f * normal(random)); });
    }
  }
  return x;
}

struct ShapeOf {
  std::int64_t rows, cols;
};
ShapeOf shape_of(int n) {
  constexpr ShapeOf kShapes[] = {{1, 1}, {1, 7}, {9, 1}, {16, 16}, {5, 33}, {40, 12}, {64, 65}, {3, 257}};
  return kShapes[n % 8];
}

}  // namespace

TEST(Compressor, TextsAreReadAndWritten) {
  for (const std::string& text : kAll) EXPECT_EQ(parse_compressor(text).text(), text);
  EXPECT_EQ(parse_compressor("top_k   0.05").fraction, 0.05);
  for (const char* bad : {"", "topk 0.1", "top_k", "top_k 0", "top_k 1.5", "top_k x", "top_k 0.1x", "rank", "rank 0",
                          "rank 1.5", "int", "int1", "int9", "int4 2", "sign 3", "identity 1", "Rank 2"})
    try {
      parse_compressor(bad);
      ADD_FAILURE() << "'" << bad << "' was accepted";
    } catch (const core::Error& e) {
      EXPECT_NE(std::string(e.what()).find("valid are identity, top_k F"), std::string::npos) << e.what();
    }
}

TEST(Compressor, MessagesHaveTheBytesOfTheTable) {
  const auto bytes = [](const char* spec, std::int64_t rows, std::int64_t cols) {
    return make_compressor(parse_compressor(spec), rows, cols)->wire_bytes();
  };
  EXPECT_EQ(bytes("identity", 100, 30), 4 * 3000);
  EXPECT_EQ(bytes("natural", 100, 30), 4 + 3000);
  EXPECT_EQ(bytes("int8", 100, 30), 3000 + 4 * 12);
  EXPECT_EQ(bytes("int5", 100, 30), 1875 + 4 * 12);
  EXPECT_EQ(bytes("int5", 7, 3), (21 * 5 + 7) / 8 + 4);
  EXPECT_EQ(bytes("sign", 100, 30), 375 + 4 * 12);
  EXPECT_EQ(bytes("sign", 1, 1), 1 + 4);
  EXPECT_EQ(bytes("rank 4", 100, 30), 4 * 4 * 130);
  EXPECT_EQ(bytes("rank 50", 100, 30), 4 * 30 * 130);  // no more columns than the matrix has
  // k = 30 of 3000: 6 low bits each, and a field of 30 + ⌊2999/64⌋ + 1 bits.
  EXPECT_EQ(bytes("top_k 0.01", 100, 30), 30 * 4 + (30 * 6 + 7) / 8 + (30 + 46 + 1 + 7) / 8);
  EXPECT_EQ(bytes("top_k_natural 0.01", 100, 30), 4 + 30 + 23 + 10);
  EXPECT_EQ(bytes("top_k 1", 2, 4), 8 * 4 + 0 + (8 + 8) / 8);
}

// k = ⌈F·n⌉ of the decimal F, whatever binary makes of it: 0.07 · 100 and 0.29 · 100 come out above 7 and below 29.
TEST(Compressor, KIsThatOfTheDecimalFraction) {
  for (int hundredths = 1; hundredths <= 100; ++hundredths)
    for (const std::int64_t n : {std::int64_t{1}, std::int64_t{7}, std::int64_t{100}, std::int64_t{4096} * 4096}) {
      const std::int64_t k = (hundredths * n + 99) / 100;
      const auto compressor = make_compressor(parse_compressor(fmt::format("top_k {}", hundredths / 100.0)), 1, n);
      EXPECT_EQ(std::llround(compressor->alpha() * static_cast<double>(n)), k) << hundredths << " % of " << n;
    }
}

TEST(Compressor, SmallMessagesAreAsDocumented) {
  const TestDevice device = make_test_device();
  const Values x = {0.3f, -3, 0, 1.5f, -0.1f, 8};
  using Bytes = std::vector<std::uint8_t>;
  // Top 8 = 0x41000000. Codes: sign, then 1 + log2(8/power): 0.25 → 6; −4 → 0x82 (3 ties up to 4); 2 → 3; −0.125 → 0x87.
  EXPECT_EQ(Channel(*device, "natural", 2, 3).send(x).bytes, (Bytes{0, 0, 0, 0x41, 6, 0x82, 0, 3, 0x87, 1}));
  EXPECT_EQ(Channel(*device, "int8", 2, 3).send(x).bytes, (Bytes{0, 0, 0, 0x41, 5, 208, 0, 24, 254, 127}));
  // 15/8 of x: 1, -6, 0, 3, 0, 15; the lowest five bits first.
  EXPECT_EQ(Channel(*device, "int5", 2, 3).send(x).bytes, (Bytes{0, 0, 0, 0x41, 0x41, 0x83, 0x01, 0x1e}));
  // Mean magnitude 12.9/6 = 2.15 = 0x4009999a; bits 1 and 4 are set.
  EXPECT_EQ(Channel(*device, "sign", 2, 3).send(x).bytes, (Bytes{0x9a, 0x99, 0x09, 0x40, 0b010010}));
  // k = 2: −3 and 8 at 1 and 5; l = 1; low bits 1, 1; field bits 0 + (1 >> 1) and 1 + (5 >> 1).
  EXPECT_EQ(Channel(*device, "top_k 0.3", 2, 3).send(x).bytes, (Bytes{0, 0, 0x40, 0xc0, 0, 0, 0, 0x41, 0b11, 0b1001}));
  EXPECT_EQ(Channel(*device, "top_k_natural 0.3", 2, 3).send(x).bytes, (Bytes{0, 0, 0, 0x41, 0x82, 1, 0b11, 0b1001}));
}

TEST(Compressor, IndicesOfAnyDensityComeBack) {
  const TestDevice device = make_test_device();
  std::mt19937 random(1);
  for (const std::int64_t n : {1, 2, 63, 1000, 70000})
    for (const std::int64_t k : {std::int64_t{1}, n / 100, n / 7, n / 2, n - 1, n}) {
      if (k < 1) continue;
      std::vector<std::int32_t> all(static_cast<std::size_t>(n)), chosen;
      std::iota(all.begin(), all.end(), 0);
      std::sample(all.begin(), all.end(), std::back_inserter(chosen), k, random);
      const compression::SparseIndex index(n, k);
      const Tensor in = Tensor::empty(*device, {k}, Dtype::int32, Category::other);
      const Tensor out = Tensor::empty(*device, {k}, Dtype::int32, Category::other);
      const Tensor wire = Tensor::empty(*device, {index.bytes()}, Dtype::uint8, Category::other);
      set_values(in, chosen);
      index.encode(device->queue(), in, wire.data<std::uint8_t>());
      index.decode(*device, wire.data<std::uint8_t>(), out);
      ASSERT_EQ(values_of<std::int32_t>(out), chosen) << k << " of " << n;
    }
}

TEST(Compressor, ReceiversGetWhatTheDefinitionSays) {
  const TestDevice device = make_test_device();
  for (int n : {0, 20, 40, 1, 2, 3, 5}) {
    const std::int64_t rows = 33, cols = 41, size = rows * cols;
    const Values x = matrix(n, rows, cols);
    EXPECT_EQ(Channel(*device, "identity", rows, cols).send(x).received, x);

    Values expected(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      int e = 0;
      const double m = std::frexp(std::fabs(x[i]), &e);  // in [1/2, 1)
      expected[i] = x[i] == 0 ? 0.0f : std::copysign(static_cast<float>(std::ldexp(1.0, m >= 0.75 ? e : e - 1)), x[i]);
    }
    EXPECT_EQ(Channel(*device, "natural", rows, cols).send(x).received, expected) << "natural, matrix " << n;

    std::vector<std::size_t> order(x.size());
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return std::fabs(x[a]) > std::fabs(x[b]); });
    const auto k = static_cast<std::size_t>(std::ceil(0.1 * static_cast<double>(size)));
    Values kept(x.size(), 0.0f);
    for (std::size_t i = 0; i < k; ++i) kept[order[i]] = x[order[i]];
    EXPECT_EQ(Channel(*device, "top_k 0.1", rows, cols).send(x).received, kept) << "top_k, matrix " << n;
    Values rounded(x.size(), 0.0f);
    for (std::size_t i = 0; i < k; ++i) rounded[order[i]] = expected[order[i]];
    EXPECT_EQ(Channel(*device, "top_k_natural 0.1", rows, cols).send(x).received, rounded) << "matrix " << n;

    const Values signs = Channel(*device, "sign", rows, cols).send(x).received;
    const Values integers = Channel(*device, "int8", rows, cols).send(x).received;
    const Values coarse = Channel(*device, "int4", rows, cols).send(x).received;
    for (std::size_t begin = 0; begin < x.size(); begin += 256) {
      const std::size_t end = std::min(begin + 256, x.size());
      double sum = 0, largest = 0;
      for (std::size_t i = begin; i < end; ++i) {
        sum += std::fabs(x[i]);
        largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
      }
      for (std::size_t i = begin; i < end; ++i) {
        const double mean = sum / static_cast<double>(end - begin);
        EXPECT_NEAR(signs[i], x[i] < 0 ? -mean : mean, 1e-6 * mean);
        // Where 127·x/largest lies halfway between two integers, either may be meant.
        EXPECT_LE(std::fabs(integers[i] - x[i]), largest / 254 * (1 + 1e-5)) << i;
        EXPECT_LE(std::fabs(coarse[i] - x[i]), largest / 14 * (1 + 1e-5)) << i;
      }
    }
  }
}

TEST(Compressor, LowRankMatricesArriveWhole) {
  const TestDevice device = make_test_device();
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{60, 37}, {37, 60}, {48, 48}}) {
    Values x(static_cast<std::size_t>(rows * cols), 0.0f);
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (int k = 0; k < 3; ++k) {
      Values a(static_cast<std::size_t>(rows)), b(static_cast<std::size_t>(cols));
      for (float& v : a) v = normal(random);
      for (float& v : b) v = normal(random);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c) x[std::size_t(r * cols + c)] += a[std::size_t(r)] * b[std::size_t(c)];
    }
    // Rank 3 through rank 4: the fourth column is found to be missing, not divided by nothing.
    const Values received = Channel(*device, "rank 4", rows, cols).send(x).received;
    EXPECT_LE(square(difference(received, x)), 1e-8 * square(x));
  }
}

TEST(Compressor, ContractionIsNeverWorseThanAlphaOnAThousandMatrices) {
  const TestDevice device = make_test_device();
  for (const std::string& spec : kAll) {
    double worst = 0;
    for (int n = 0; n < 1000; ++n) {
      const auto [rows, cols] = shape_of(n);
      const Values x = matrix(n * (n < 300 ? 20 : 1), rows, cols);  // 300 hard ones, 15 kinds in 8 shapes
      Channel channel(*device, spec, rows, cols);
      const double error = squared_distance(channel.send(x).received, x), norm = square(x);
      // Rounding: of each entry to float32 (or to its grid, for subnormals), and, for a low rank, of its products.
      const double slack = (spec.starts_with("rank") ? 1e-6 : 1e-12) * norm + 1e-89 * static_cast<double>(x.size());
      ASSERT_LE(error, (1 - channel.compressor().alpha()) * norm + slack) << spec << ", matrix " << n;
      if (norm > 0) worst = std::max(worst, error / norm);
    }
    const Values gaussian = matrix(7, 256, 256);
    const double typical =
        squared_distance(Channel(*device, spec, 256, 256).send(gaussian).received, gaussian) / square(gaussian);
    std::printf("  %-20s share of the square norm that is lost: %.6f at worst, %.6f of a Gaussian matrix\n", spec.c_str(),
                worst, typical);
  }
}

// What error feedback does with a target that stands still: the residual falls by 1 − α at least each time, also where a
// warm start would look in directions that are already exact.
TEST(Compressor, ResidualsOfAFixedTargetVanish) {
  const TestDevice device = make_test_device();
  for (const std::string& spec : kAll)
    for (int n : {1, 100, 80, 3}) {
      const std::int64_t rows = 40, cols = 28;
      Channel channel(*device, spec, rows, cols);
      Values residual = matrix(n, rows, cols);
      for (int step = 0; step < 30; ++step) {
        const double before = square(residual);
        residual = difference(residual, channel.send(residual, {1, static_cast<std::uint64_t>(step), 0}).received);
        ASSERT_LE(square(residual), (1 - channel.compressor().alpha()) * before + 1e-6 * before + 1e-30)
            << spec << ", matrix " << n << ", step " << step;
      }
    }
}

TEST(Compressor, BytesDependOnTheKeyAndTheValuesAlone) {
  const std::int64_t rows = 300, cols = 260;  // enough for several threads
  const Values x = matrix(1, rows, cols), y = matrix(2, rows, cols);
  for (const std::string& spec : kAll) {
    std::vector<std::vector<std::uint8_t>> sent;
    for (int threads : {1, 2, 3, 4}) {
      const TestDevice device = make_test_device(threads);
      Channel channel(*device, spec, rows, cols);
      if (threads % 2 == 0) Channel(*device, spec, rows, cols).send(y, {9, 9, 2});  // another sender before it
      std::vector<std::uint8_t> both = channel.send(x, {5, 0, 2}).bytes;
      const std::vector<std::uint8_t> second = channel.send(y, {5, 1, 2}).bytes;
      both.insert(both.end(), second.begin(), second.end());
      sent.push_back(std::move(both));
    }
    for (const auto& bytes : sent) EXPECT_EQ(bytes, sent.front()) << spec;
  }
  const TestDevice device = make_test_device();
  const auto start = [&](const CompressionKey& key) { return Channel(*device, "rank 2", rows, cols).send(x, key).bytes; };
  EXPECT_EQ(start({5, 0, 2}), start({5, 0, 2}));
  EXPECT_NE(start({5, 0, 2}), start({6, 0, 2}));
  EXPECT_NE(start({5, 0, 2}), start({5, 1, 2}));
  EXPECT_NE(start({5, 0, 2}), start({5, 0, 3}));
}

TEST(Compressor, DecodingAddsWithAWeight) {
  const TestDevice device = make_test_device();
  for (const std::string& spec : kAll) {
    const auto compressor = make_compressor(parse_compressor(spec), 20, 30);
    const Tensor x = Tensor::empty(*device, {600}, Dtype::float32, Category::other);
    const Tensor once = Tensor::empty(*device, {600}, Dtype::float32, Category::other);
    const Tensor twice = Tensor::empty(*device, {600}, Dtype::float32, Category::other);
    const Tensor state = Tensor::zeros(*device, {compressor->state_elements()}, Dtype::float32, Category::other);
    const Tensor wire = Tensor::empty(*device, {compressor->wire_bytes()}, Dtype::uint8, Category::other);
    set_values(x, matrix(4, 20, 30));
    compressor->encode(*device, x, state, {}, wire);
    compressor->decode(*device, wire, 1, false, once);
    compressor->decode(*device, wire, 0.5f, false, twice);
    compressor->decode(*device, wire, 0.5f, true, twice);
    EXPECT_EQ(values_of(twice), values_of(once)) << spec;  // halves are exact
  }
}
