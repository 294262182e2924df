#include "optim/spectral/gradient_norm.h"

#include <cmath>

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

// The sums of all chunks that `make(sums)` computes, added in order.
template <class Make>
double sum_in_chunks(core::Queue& queue, std::int64_t n, const Make& make) {
  const std::int64_t chunks = (n + kChunk - 1) / kChunk;
  core::HostResult<double> partial(queue, chunks);
  core::for_each_row(queue, chunks, kChunk, make(partial.to_write()));
  double total = 0;
  for (const double sum : partial.read()) total += sum;
  return total;
}

}  // namespace

SquareSum sum_of_squares(core::Queue& queue, const core::Tensor& piece) {
  const std::int64_t n = piece.size();
  const double sum = sum_in_chunks(queue, n, [&](double* sums) { return SquareSums{piece.data<float>(), n, sums}; });
  return {.sum = sum, .finite = std::isfinite(sum)};
}

double inner_product(core::Queue& queue, const core::Tensor& a, const core::Tensor& b) {
  MUONP_ASSERT(a.size() == b.size(), "{} and {} elements", a.size(), b.size());
  return sum_in_chunks(queue, a.size(), [&](double* sums) {
    return ProductSums{a.data<float>(), b.data<float>(), a.size(), sums};
  });
}

double clip_scale(double norm, double limit) {
  MUONP_ASSERT(std::isfinite(norm), "gradient norm {}: the step must be skipped, not clipped", norm);
  return limit > 0 && norm > limit ? limit / norm : 1.0;
}

}  // namespace muonp::optim
