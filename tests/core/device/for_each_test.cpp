// The executors against plain loops, at the sizes where threads, warps and blocks of a GPU end. All numbers
// are small integers, so that sums are exact in any order.
#include "core/device/for_each.h"

#include <gtest/gtest.h>

#include "core/autograd/ops/common.h"
#include "core/base/rng.h"
#include "tests/support/test_device.h"

using namespace muonp::core;
using namespace muonp::test;

namespace {

struct Count {  // visits
  std::int32_t* visits;
  MUONP_HD void operator()(std::int64_t i) const { visits[i] += static_cast<std::int32_t>(i % 1000) + 1; }
};

// Packs of a GPU: a read array, one read and written, one written only and of half the size.
struct Packed {
  const float* x;
  float* y;
  Written<bfloat16> z;
  using Elements = ElementArrays<&Packed::x, &Packed::y, &Packed::z>;
  MUONP_HD void operator()(std::int64_t i) const {
    z[i] = bfloat16(x[i] - y[i]);
    y[i] += x[i];
  }
};

// Two reductions in a row, one in double precision over a part, then two passes of which the second reads the
// first's.
struct Reduce {
  const float* x;
  float *y, *sums, *maxima;
  double* halves;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const float* p = x + row.index * row.cols;
    float* q = y + row.index * row.cols;
    const float sum = row.sum([=](std::int64_t c) { return p[c]; });
    const float best = row.max([=](std::int64_t c) { return p[c]; });
    const double half = row.part(row.cols / 2).sum([=](std::int64_t c) { return static_cast<double>(p[c]) * 0x1p30; });
    row.each([=](std::int64_t c) { q[c] = p[c] - best; });
    row.each([=](std::int64_t c) { q[c] = q[c] + sum; });
    sums[row.index] = sum;
    maxima[row.index] = best;
    halves[row.index] = half;
  }
};

// Sums, maxima and results over arrays of different types, that begin `shift` elements after an aligned address.
struct ReduceArrays {
  const float* x;
  const bfloat16* y;
  float* z;
  Written<bfloat16> w;
  float *sums, *maxima;
  std::int64_t shift;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t first = shift + row.index * row.cols;
    const float* a = x + first;
    const bfloat16* b = y + first;
    sums[row.index] = row.sum([](float p, bfloat16 q) { return p * float(q); }, a, b);
    maxima[row.index] = row.max([](bfloat16 q) { return float(q); }, b);
    row.over(
        [](float p, bfloat16 q, float& r, bfloat16& s) {
          r += p;
          s = bfloat16(p - float(q));
        },
        a, b, z + first, Written<bfloat16>{w.data + first});
  }
};

struct Narrow {
  float* data;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    float* p = data + row.index * row.cols;
    row.template narrow<bfloat16>(p, [=](std::int64_t c, float x) { return bfloat16(x + static_cast<float>(c % 5)); });
  }
};

struct LogSumExp {
  const float* x;
  float* out;
  MUONP_ROW_KERNEL void operator()(const R& row) const { out[row.index] = row.log_sum_exp(x + row.index * row.cols); }
};

struct WeightedColumns {
  static constexpr int kSums = 2;
  const float* x;
  const bfloat16* y;
  std::int64_t cols;
  MUONP_COLUMN_KERNEL auto row(std::int64_t r, const Use& use) const {
    const auto weight = static_cast<float>(r % 3);
    return use(
        [=](float p, bfloat16 q, float& weighted, float& sum) {
          weighted += p * weight;
          sum += p + float(q);
        },
        x + r * cols, y + r * cols);
  }
};

std::vector<float> integers(std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(random_below(5, 0, static_cast<std::uint64_t>(i), 17)) - 20.0f);
  return values;
}

struct Size {
  std::int64_t rows, cols;
};

// One row, fewer rows than a block has warps, and more than the largest GPU takes at a time: of warps (8448
// on 132 multiprocessors) and of blocks (1056).
std::vector<Size> sizes() {
  std::vector<Size> all;
  for (const std::int64_t cols : {0, 1, 31, 32, 33, 255, 256, 257, 1024, 1025, 5000})
    for (const std::int64_t rows : {0, 1, 11}) all.push_back({rows, cols});
  all.push_back({10007, 5});
  all.push_back({2003, 1030});
  return all;
}

struct ForEach : ::testing::Test {
  TestDevice device = make_test_device();
  Queue& queue = device->queue();

  Tensor tensor(const std::vector<float>& values) {
    const Tensor t = empty(static_cast<std::int64_t>(values.size()));
    set_values(t, values);
    return t;
  }
  Tensor empty(std::int64_t n, Dtype dtype = Dtype::float32) { return Tensor::empty(*device, {n}, dtype, Category::other); }
};

}  // namespace

TEST_F(ForEach, VisitsEveryIndexOnce) {
  for (const std::int64_t n : {0, 1, 31, 32, 33, 255, 256, 257, 8191, 8192, 8193, 300007}) {
    const Tensor visits = Tensor::zeros(*device, {n + 3}, Dtype::int32, Category::other);
    for_each(queue, n, Count{visits.data<std::int32_t>()});
    const std::vector<std::int32_t> got = values_of<std::int32_t>(visits);
    for (std::int64_t i = 0; i < n + 3; ++i)
      ASSERT_EQ(got[static_cast<std::size_t>(i)], i < n ? i % 1000 + 1 : 0) << n << ", " << i;
  }
}

// Aligned and not, with every remainder of a pack; what lies around is left as it was.
TEST_F(ForEach, NamedArraysGiveWhatPlainLoopsGive) {
  for (const std::int64_t shift : {0, 1, 4})
    for (const std::int64_t n : {0, 1, 3, 4, 5, 7, 8, 1023, 1024, 1025, 70001}) {
      SCOPED_TRACE(fmt::format("{} elements from {} on", n, shift));
      const std::vector<float> x = integers(shift + n + 8), y = integers(2 * (shift + n + 8));
      const std::vector<float> before(y.begin() + shift + n + 8, y.end());
      const Tensor in = tensor(x), both = tensor(before), out = empty(shift + n + 8, Dtype::bfloat16);
      fill(out, bfloat16(99.0f));
      for_each(queue, n, Packed{in.data<float>() + shift, both.data<float>() + shift, {out.data<bfloat16>() + shift}});
      const std::vector<float> sums = values_of(both);
      const std::vector<bfloat16> differences = values_of<bfloat16>(out);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const bool inside = i >= std::size_t(shift) && i < std::size_t(shift + n);
        ASSERT_EQ(sums[i], before[i] + (inside ? x[i] : 0.0f)) << i;
        ASSERT_EQ(float(differences[i]), inside ? x[i] - before[i] : 99.0f) << i;
      }
    }
}

TEST_F(ForEach, RowsReduceAndWriteLikePlainLoops) {
  for (const auto& [rows, cols] : sizes()) {
    SCOPED_TRACE(fmt::format("[{}, {}]", rows, cols));
    const std::vector<float> x = integers(rows * cols);
    const Tensor in = tensor(x), out = empty(rows * cols), sums = empty(rows), maxima = empty(rows);
    const Tensor halves = empty(2 * rows, Dtype::int32);
    for_each_row(queue, rows, cols,
                 Reduce{in.data<float>(), out.data<float>(), sums.data<float>(), maxima.data<float>(),
                        static_cast<double*>(halves.raw())});
    const std::vector<float> y = values_of(out), sum = values_of(sums), best = values_of(maxima);
    const std::string half = bytes_of(halves);
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto row = static_cast<std::size_t>(r), first = row * static_cast<std::size_t>(cols);
      float total = 0, largest = -INFINITY;
      double of_half = 0, got_half = 0;
      for (std::size_t c = 0; c < static_cast<std::size_t>(cols); ++c) {
        total += x[first + c];
        largest = std::max(largest, x[first + c]);
        if (c < static_cast<std::size_t>(cols / 2)) of_half += double(x[first + c]) * 0x1p30;
      }
      std::memcpy(&got_half, half.data() + row * sizeof(double), sizeof(double));
      ASSERT_EQ(sum[row], total) << r;
      ASSERT_EQ(best[row], largest) << r;
      ASSERT_EQ(got_half, of_half) << r;
      for (std::size_t i = first; i < first + static_cast<std::size_t>(cols); ++i)
        ASSERT_EQ(y[i], x[i] - largest + total) << r << ", " << i - first;
    }
  }
}

TEST_F(ForEach, RowsOverArraysGiveWhatPlainLoopsGive) {
  for (const auto& [rows, cols] : sizes()) {
    if (rows > 11) continue;
    for (const std::int64_t shift : {0, 3}) {
      SCOPED_TRACE(fmt::format("[{}, {}] from {} on", rows, cols, shift));
      const std::int64_t n = shift + rows * cols + 8;
      const std::vector<float> x = integers(n), before = integers(n);
      std::vector<bfloat16> y;
      for (std::int64_t i = 0; i < n; ++i) y.emplace_back(static_cast<float>(i % 7));
      const Tensor in = tensor(x), other = empty(n, Dtype::bfloat16), both = tensor(before), out = empty(n, Dtype::bfloat16),
                   sums = empty(rows), maxima = empty(rows);
      set_values(other, y);
      fill(out, bfloat16(99.0f));
      for_each_row(queue, rows, cols,
                   ReduceArrays{in.data<float>(),
                                other.data<bfloat16>(),
                                both.data<float>(),
                                {out.data<bfloat16>()},
                                sums.data<float>(),
                                maxima.data<float>(),
                                shift});
      const std::vector<float> z = values_of(both), sum = values_of(sums), best = values_of(maxima);
      const std::vector<bfloat16> w = values_of<bfloat16>(out);
      for (std::int64_t r = 0; r < rows; ++r) {
        float total = 0, largest = -INFINITY;
        for (std::int64_t i = shift + r * cols; i < shift + (r + 1) * cols; ++i) {
          total += x[std::size_t(i)] * float(y[std::size_t(i)]);
          largest = std::max(largest, float(y[std::size_t(i)]));
        }
        ASSERT_EQ(sum[std::size_t(r)], total) << r;
        ASSERT_EQ(best[std::size_t(r)], largest) << r;
      }
      for (std::int64_t i = 0; i < n; ++i) {
        const bool inside = i >= shift && i < shift + rows * cols;
        const auto k = std::size_t(i);
        ASSERT_EQ(z[k], before[k] + (inside ? x[k] : 0.0f)) << i;
        ASSERT_EQ(float(w[k]), inside ? x[k] - float(y[k]) : 99.0f) << i;
      }
    }
  }
}

TEST_F(ForEach, NarrowOverwritesTheRowsFirstHalf) {
  for (const auto& [rows, cols] : sizes()) {
    SCOPED_TRACE(fmt::format("[{}, {}]", rows, cols));
    const std::vector<float> x = integers(rows * cols);
    const Tensor t = tensor(x);
    for_each_row(queue, rows, cols, Narrow{t.data<float>()});
    const std::string got = bytes_of(t);
    std::string wanted(reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float));
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const bfloat16 value(x[static_cast<std::size_t>(i)] + static_cast<float>(i % cols % 5));
      std::memcpy(wanted.data() + i / cols * cols * 4 + i % cols * 2, &value, sizeof value);
    }
    ASSERT_TRUE(got == wanted);
  }
}

// With rows that lie a multiple of 16 bytes apart and others, few chunks and many.
TEST_F(ForEach, LogSumExpIsThatOfTheWholeRow) {
  for (const auto& [rows, cols] : sizes()) {
    if (rows == 0 || cols == 0) continue;
    SCOPED_TRACE(fmt::format("[{}, {}]", rows, cols));
    std::vector<float> x;
    for (const float value : integers(rows * cols)) x.push_back(4.0f * value);  // far apart: most terms vanish
    const Tensor in = tensor(x), out = empty(rows);
    for_each_row(queue, rows, cols, LogSumExp{in.data<float>(), out.data<float>()});
    const std::vector<float> got = values_of(out);
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto first = x.begin() + r * cols, last = first + cols;
      const double highest = *std::max_element(first, last);
      double sum = 0;
      for (auto i = first; i != last; ++i) sum += std::exp(static_cast<double>(*i) - highest);
      ASSERT_NEAR(got[static_cast<std::size_t>(r)], highest + std::log(sum), 0x1p-22 * (std::abs(highest) + 1)) << r;
    }
  }
}

// Each is below half an ulp of a sum that has the largest, and together they are 0.4 % of it. What is added to one float
// before the next is begun are at most 512 terms, whose relative rounding is 512 half ulps.
TEST_F(ForEach, LogSumExpCountsTheSmallTermsOfALargeVocabulary) {
  constexpr std::int64_t kWords = 151936;
  std::vector<float> x(kWords, -17.5f);
  x[0] = 0;
  const Tensor in = tensor(x), out = empty(1);
  for_each_row(queue, 1, kWords, LogSumExp{in.data<float>(), out.data<float>()});
  EXPECT_NEAR(values_of(out)[0], std::log1p((kWords - 1) * std::exp(-17.5)), 512 * 0x1p-24);
}

TEST_F(ForEach, ColumnSumsOverwriteOrAdd) {
  for (const std::int64_t cols : {0, 1, 31, 32, 33, 64, 65, 256, 257, 1024, 1025})
    for (const std::int64_t rows : {0, 1, 7, 8, 9, 100, 3000}) {
      if (rows * cols > 300000) continue;
      SCOPED_TRACE(fmt::format("[{}, {}]", rows, cols));
      const std::vector<float> x = integers(rows * cols);
      const std::vector<bfloat16> half(x.begin(), x.end());
      const Tensor in = tensor(x), narrow = empty(rows * cols, Dtype::bfloat16), weighted = empty(cols), sum = empty(cols);
      set_values(narrow, half);
      for (const bool add : {false, true}) {
        column_sums(queue, rows, cols, {{{weighted.data<float>(), add}, {sum.data<float>(), false}}},
                    WeightedColumns{in.data<float>(), narrow.data<bfloat16>(), cols});
        const std::vector<float> got = values_of(weighted), plain = values_of(sum);
        for (std::int64_t c = 0; c < cols; ++c) {
          float total = 0, of_all = 0;
          for (std::int64_t r = 0; r < rows; ++r) {
            total += x[static_cast<std::size_t>(r * cols + c)] * static_cast<float>(r % 3);
            of_all += 2 * x[static_cast<std::size_t>(r * cols + c)];
          }
          ASSERT_EQ(got[static_cast<std::size_t>(c)], add ? 2 * total : total) << c;
          ASSERT_EQ(plain[static_cast<std::size_t>(c)], of_all) << c;
        }
      }
    }
}
