#include "optim/spectral/gradient_norm.h"

#include <cmath>

#include "core/base/index.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"

namespace muonp::optim {

namespace {

constexpr std::int64_t kChunk = 4096;

// Elements whose chunks are numbered from `first` on.
struct Piece {
  const float* x;
  std::int64_t n, first;
};

// Of the k-th chunk of all pieces: sums[k] = Σ x². The table of pieces lies in the device's memory, in the order of their
// chunks.
struct SquareSums {
  const Piece* pieces;
  std::int64_t count;
  double* sums;

  MUONP_ROW_KERNEL void operator()(const R& chunk) const {
    std::int64_t low = 0, high = count;  // piece `low` begins at this chunk or before, piece `high` behind it
    while (high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      (pieces[middle].first <= chunk.index ? low : high) = middle;
    }
    const Piece piece = pieces[low];
    const std::int64_t begin = (chunk.index - piece.first) * kChunk;
    const std::int64_t left = piece.n - begin;
    sums[chunk.index] =
        chunk.part(left < kChunk ? left : kChunk).sum([](float a) { return static_cast<double>(a) * a; }, piece.x + begin);
  }
};

// Of the k-th chunk: sums[k] = Σ x·y.
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
  std::vector<Piece> filled;
  std::int64_t chunks = 0;
  for (const core::Tensor& piece : pieces) {
    if (!piece || piece.size() == 0) continue;
    filled.push_back({piece.data<float>(), piece.size(), chunks});
    chunks += chunks_of(piece.size());
  }
  core::HostResult<double> partial(queue, chunks);
  core::Tensor table;  // on the CPU `filled` is where a kernel reads
  if (queue.kind() != core::DeviceKind::cpu && !filled.empty()) {
    const auto bytes = static_cast<std::int64_t>(filled.size() * sizeof(Piece));
    table = core::Tensor::empty(queue.device(), {bytes}, core::Dtype::uint8, core::Category::other);
    queue.write(table.raw(), filled.data(), bytes);
  }
  const auto* all = table ? static_cast<const Piece*>(table.raw()) : filled.data();
  core::for_each_row(queue, chunks, kChunk, SquareSums{all, std::ssize(filled), partial.to_write()});
  std::span<const double> left = partial.read();
  std::vector<SquareSum> sums;
  for (const core::Tensor& piece : pieces) {
    const std::size_t own = core::at(piece ? chunks_of(piece.size()) : 0);
    const double sum = total_of(left.first(own));
    sums.push_back({.sum = sum, .finite = std::isfinite(sum)});
    left = left.subspan(own);
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
