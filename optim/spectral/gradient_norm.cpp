#include "optim/spectral/gradient_norm.h"

#include <cmath>

#include "core/base/index.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"

namespace muonp::optim {

namespace {

constexpr std::int64_t kChunk = 4096;

// Of the k-th chunk: sums[k] = Σ x², Σ x·y.
struct SquareSums {
  const float* x;
  std::int64_t n;
  double* sums;

  MUONP_ROW_KERNEL void operator()(const R& chunk) const {
    const std::int64_t begin = chunk.index * kChunk, count = n - begin < kChunk ? n - begin : kChunk;
    sums[chunk.index] = chunk.part(count).sum([](float a) { return static_cast<double>(a) * a; }, x + begin);
  }
};

struct ProductSums {
  const float *x, *y;
  std::int64_t n;
  double* sums;

  MUONP_ROW_KERNEL void operator()(const R& chunk) const {
    const std::int64_t begin = chunk.index * kChunk, count = n - begin < kChunk ? n - begin : kChunk;
    sums[chunk.index] =
        chunk.part(count).sum([](float a, float b) { return static_cast<double>(a) * b; }, x + begin, y + begin);
  }
};

struct SquaredDifferences {
  const float *x, *y;
  std::int64_t n;
  double* sums;

  MUONP_ROW_KERNEL void operator()(const R& chunk) const {
    const std::int64_t begin = chunk.index * kChunk, count = n - begin < kChunk ? n - begin : kChunk;
    const auto square = [](float a, float b) {
      const double difference = static_cast<double>(a) - b;
      return difference * difference;
    };
    sums[chunk.index] = chunk.part(count).sum(square, x + begin, y + begin);
  }
};

std::int64_t chunks_of(std::int64_t n) { return (n + kChunk - 1) / kChunk; }

double total_of(std::span<const double> chunks) {
  double total = 0;
  for (const double sum : chunks) total += sum;
  return total;
}

}  // namespace

std::vector<SquareSum> sums_of_squares(core::Queue& queue, std::span<const core::Tensor> pieces) {
  std::vector<std::int64_t> sizes;
  std::int64_t chunks = 0;
  for (const core::Tensor& piece : pieces) {
    sizes.push_back(piece ? piece.size() : 0);
    chunks += chunks_of(sizes.back());
  }
  core::HostResult<double> partial(queue, chunks);
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::int64_t own = chunks_of(sizes[i]);
    if (own > 0)
      core::for_each_row(queue, own, kChunk, SquareSums{pieces[i].data<float>(), sizes[i], partial.to_write() + begin});
    begin += own;
  }
  std::span<const double> left = partial.read();
  std::vector<SquareSum> sums;
  for (const std::int64_t size : sizes) {
    const double sum = total_of(left.first(core::at(chunks_of(size))));
    sums.push_back({.sum = sum, .finite = std::isfinite(sum)});
    left = left.subspan(core::at(chunks_of(size)));
  }
  return sums;
}

namespace {

template <class Sums>
double sum_over(core::Queue& queue, const core::Tensor& a, const core::Tensor& b) {
  MUONP_ASSERT(a.size() == b.size(), "{} and {} elements", a.size(), b.size());
  core::HostResult<double> partial(queue, chunks_of(a.size()));
  core::for_each_row(queue, chunks_of(a.size()), kChunk,
                     Sums{a.data<float>(), b.data<float>(), a.size(), partial.to_write()});
  return total_of(partial.read());
}

}  // namespace

double inner_product(core::Queue& queue, const core::Tensor& a, const core::Tensor& b) {
  return sum_over<ProductSums>(queue, a, b);
}

double squared_distance(core::Queue& queue, const core::Tensor& a, const core::Tensor& b) {
  return sum_over<SquaredDifferences>(queue, a, b);
}

double clip_scale(double norm, double limit) {
  MUONP_ASSERT(std::isfinite(norm), "gradient norm {}: the step must be skipped, not clipped", norm);
  return limit > 0 && norm > limit ? limit / norm : 1.0;
}

}  // namespace muonp::optim
