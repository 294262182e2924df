// The k entries of largest magnitude: their values, in the order of their indices, then the indices (sparse_index.h).
// Of entries that tie, those of lower index are taken.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/base/math.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"
#include "dist/compression/kinds.h"
#include "dist/compression/sparse_index.h"

namespace muonp::dist::compression {

using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

// Of non-negative floats the bits are in the order of the values.
MUONP_HD inline std::uint32_t magnitude_bits(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu; }

constexpr std::int64_t kChunk = 1024;

struct CountAbove {  // of chunk c: entries at or above the threshold
  const float* x;
  std::int64_t n;
  std::uint32_t threshold;
  std::int32_t* counts;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t begin = row.index * kChunk;
    const std::int64_t count = n - begin < kChunk ? n - begin : kChunk;
    const std::uint32_t least = threshold;
    counts[row.index] =
        row.part(count).sum([least](float a) { return static_cast<std::int32_t>(magnitude_bits(a) >= least); }, x + begin);
  }
};

std::int64_t count_at_least(core::Queue& queue, const Tensor& x, std::uint32_t threshold) {
  const std::int64_t chunks = (x.size() + kChunk - 1) / kChunk;
  core::HostResult<std::int32_t> counts(queue, chunks);
  core::for_each_row(queue, chunks, kChunk, CountAbove{x.data<float>(), x.size(), threshold, counts.to_write()});
  std::int64_t total = 0;
  for (const std::int32_t c : counts.read()) total += c;
  return total;
}

struct Threshold {
  std::uint32_t bits;  // of the k-th largest magnitude
  std::int64_t above;  // entries larger than that: all are taken
};

// Bisection over the bits of a float: at most 31 counts, whatever the values.
Threshold find_threshold(core::Queue& queue, const Tensor& x, std::int64_t k, float largest) {
  std::uint32_t low = 0, high = magnitude_bits(largest) + 1;  // count(≥ low) ≥ k > count(≥ high)
  std::int64_t above = 0;                                     // count(≥ high)
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    const std::int64_t count = count_at_least(queue, x, middle);
    if (count >= k) {
      low = middle;
      if (count == k) return {middle, k};
    } else {
      high = middle;
      above = count;
    }
  }
  return {low, above};
}

struct CountChosen {  // of chunk c: entries above the threshold, and entries at it
  const float* x;
  std::int64_t n;
  std::uint32_t threshold;
  bool ties;  // whether entries at the threshold count apart
  std::int32_t *above, *equal;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t begin = row.index * kChunk;
    const auto chunk = row.part(n - begin < kChunk ? n - begin : kChunk);
    const std::uint32_t at = threshold, over = ties ? at + 1 : at;
    above[row.index] =
        chunk.sum([over](float a) { return static_cast<std::int32_t>(magnitude_bits(a) >= over); }, x + begin);
    equal[row.index] = chunk.sum([at](float a) { return static_cast<std::int32_t>(magnitude_bits(a) == at); }, x + begin);
  }
};

struct PlaceChunks {  // one thread: above[c] becomes where chunk c writes, equal[c] how many ties it may take
  std::int32_t *above, *equal;
  std::int64_t chunks;
  std::int32_t ties_wanted;
  MUONP_HD void operator()(std::int64_t) const {
    std::int32_t place = 0, left = ties_wanted;
    for (std::int64_t c = 0; c < chunks; ++c) {
      const std::int32_t ties = equal[c] < left ? equal[c] : left, here = above[c] + ties;
      above[c] = place;
      equal[c] = ties;
      place += here;
      left -= ties;
    }
  }
};

struct Collect {  // a chunk is gone through in order
  const float* x;
  std::int64_t n;
  std::uint32_t threshold;
  bool ties;
  const std::int32_t *places, *ties_allowed;
  std::int32_t* indices;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    std::int32_t at = places[row.index], left = ties ? ties_allowed[row.index] : 0;
    for (std::int64_t i = row.index * kChunk; i < (row.index + 1) * kChunk && i < n; ++i) {
      const std::uint32_t bits = magnitude_bits(x[i]);
      bool take = ties ? bits > threshold : bits >= threshold;
      if (bits == threshold && left > 0) {
        take = true;
        --left;
      }
      if (take) indices[at++] = static_cast<std::int32_t>(i);
    }
  }
};

struct PackPlain {
  const float* x;
  const std::int32_t* indices;
  std::uint8_t* to;
  MUONP_HD void operator()(std::int64_t j) const { store_float(to + 4 * j, x[indices[j]]); }
};

struct PackNatural {
  const float* x;
  const std::int32_t* indices;
  std::uint8_t* to;
  NaturalCode code;
  MUONP_HD void operator()(std::int64_t j) const { to[j] = code.encode(x[indices[j]]); }
};

template <bool natural>
struct Scatter {
  const std::uint8_t* values;
  const std::int32_t* indices;
  float* out;
  float weight;
  MUONP_HD void operator()(std::int64_t j) const {
    float value;
    if constexpr (natural)
      value = NaturalCode{load_float(values)}.decode(values[4 + j]);
    else
      value = load_float(values + 4 * j);
    out[indices[j]] += weight * value;
  }
};

// ⌈F·n⌉ for the decimal F that `fraction` was read from: the double is off by up to half a unit of its last place, and the
// product by as much again, which must not turn the 7 of 0.07 · 100 into 8.
std::int64_t entries(double fraction, std::int64_t n) {
  const double product = fraction * static_cast<double>(n);
  if (!std::in_range<std::int32_t>(n))
    core::fail(
        "compression by top_k of a matrix of {} elements: it numbers them in 32 bits, {} at most; identity, natural, int8, "
        "int4, sign and rank have no such limit",
        n, std::numeric_limits<std::int32_t>::max());
  return std::clamp<std::int64_t>(std::llround(std::ceil(product - product * 0x1p-52)), 1, n);
}

class TopK final : public Compressor {
 public:
  TopK(std::int64_t rows, std::int64_t cols, double fraction, bool natural)
      : Compressor(rows, cols), k_(entries(fraction, rows * cols)), natural_(natural), index_(rows * cols, k_) {}

  double alpha() const override {
    return (natural_ ? 8.0 / 9 : 1.0) * static_cast<double>(k_) / static_cast<double>(size());
  }
  std::int64_t wire_bytes() const override { return value_bytes() + index_.bytes(); }
  std::int64_t workspace_bytes() const override {
    return 4 * k_ + std::max(2 * 4 * chunks(), index_.decode_workspace_bytes());
  }

  void encode(core::Device& device, const Tensor& x, const Tensor&, const CompressionKey&,
              const Tensor& wire) const override {
    core::Queue& queue = device.queue();
    const float largest = largest_magnitude(queue, x);
    const Tensor indices = choose(device, x, find_threshold(queue, x, k_, largest));
    auto* to = wire.data<std::uint8_t>();
    const auto* from = indices.data<std::int32_t>();
    if (natural_) {
      const NaturalCode code{NaturalCode::top_of(largest)};
      queue.write(to, &code.top, sizeof code.top);
      core::for_each(queue, k_, PackNatural{x.data<float>(), from, to + 4, code});
    } else {
      core::for_each(queue, k_, PackPlain{x.data<float>(), from, to});
    }
    index_.encode(queue, indices, to + value_bytes());
  }

  void decode(core::Device& device, const Tensor& wire, float weight, bool add, const Tensor& out) const override {
    core::Queue& queue = device.queue();
    const Tensor indices = Tensor::empty(device, {k_}, Dtype::int32, Category::exchange);
    const auto* from = wire.data<std::uint8_t>();
    index_.decode(device, from + value_bytes(), indices);
    if (!add) out.zero(queue);
    const auto* at = indices.data<std::int32_t>();
    if (natural_)
      core::for_each(queue, k_, Scatter<true>{from, at, out.data<float>(), weight});
    else
      core::for_each(queue, k_, Scatter<false>{from, at, out.data<float>(), weight});
  }

 private:
  std::int64_t chunks() const { return (size() + kChunk - 1) / kChunk; }
  std::int64_t value_bytes() const { return natural_ ? 4 + k_ : 4 * k_; }

  Tensor choose(core::Device& device, const Tensor& x, const Threshold& threshold) const {
    core::Queue& queue = device.queue();
    const Tensor indices = Tensor::empty(device, {k_}, Dtype::int32, Category::exchange);
    const Tensor counts = Tensor::empty(device, {2 * chunks()}, Dtype::int32, Category::exchange);
    auto *above = counts.data<std::int32_t>(), *equal = above + chunks();
    const bool ties = threshold.above < k_;
    core::for_each_row(queue, chunks(), kChunk, CountChosen{x.data<float>(), size(), threshold.bits, ties, above, equal});
    core::for_each(queue, 1, PlaceChunks{above, equal, chunks(), core::to_int(k_ - threshold.above)});
    core::for_each_row(queue, chunks(), kChunk,
                       Collect{x.data<float>(), size(), threshold.bits, ties, above, equal, indices.data<std::int32_t>()});
    return indices;
  }

  std::int64_t k_;
  bool natural_;
  SparseIndex index_;
};

}  // namespace

std::unique_ptr<Compressor> make_top_k(std::int64_t rows, std::int64_t cols, double fraction, bool natural) {
  return std::make_unique<TopK>(rows, cols, fraction, natural);
}

}  // namespace muonp::dist::compression
