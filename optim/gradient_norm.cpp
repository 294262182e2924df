#include "optim/gradient_norm.h"

#include <cmath>

#include "core/for_each.h"
#include "core/host_view.h"

namespace muonp::optim {

namespace {

constexpr std::int64_t kChunk = 4096;

struct Square {
  const float* x;
  MUONP_HD double operator()(std::int64_t i) const {
    const double value = x[i];
    return value * value;
  }
};

struct Multiply {
  const float *x, *y;
  MUONP_HD double operator()(std::int64_t i) const { return static_cast<double>(x[i]) * y[i]; }
};

// sums[k] = Σ f(i) over the k-th chunk.
template <class F>
struct ChunkSums {
  double* sums;
  std::int64_t n;
  F f;

  MUONP_ROW_KERNEL void operator()(const R& chunk) const {
    const std::int64_t begin = chunk.index * kChunk, count = n - begin < kChunk ? n - begin : kChunk;
    const F local = f;
    sums[chunk.index] = chunk.part(count).sum([=](std::int64_t i) { return local(begin + i); });
  }
};

// Σ f(i) over [0, n): one partial sum a chunk, then the chunks in order.
template <class F>
double sum_in_chunks(core::Queue& queue, std::int64_t n, const F& f) {
  const std::int64_t chunks = (n + kChunk - 1) / kChunk;
  core::HostResult<double> partial(queue, chunks);
  core::for_each_row(queue, chunks, kChunk, ChunkSums<F>{partial.to_write(), n, f});
  double total = 0;
  for (const double sum : partial.read()) total += sum;
  return total;
}

}  // namespace

SquareSum sum_of_squares(core::Queue& queue, const core::Tensor& piece) {
  const double sum = sum_in_chunks(queue, piece.size(), Square{piece.data<float>()});
  return {.sum = sum, .finite = std::isfinite(sum)};
}

double inner_product(core::Queue& queue, const core::Tensor& a, const core::Tensor& b) {
  MUONP_ASSERT(a.size() == b.size(), "{} and {} elements", a.size(), b.size());
  return sum_in_chunks(queue, a.size(), Multiply{a.data<float>(), b.data<float>()});
}

double clip_scale(double norm, double limit) {
  MUONP_ASSERT(std::isfinite(norm), "gradient norm {}: the step must be skipped, not clipped", norm);
  return limit > 0 && norm > limit ? limit / norm : 1.0;
}

}  // namespace muonp::optim
