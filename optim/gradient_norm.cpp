#include "optim/gradient_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/for_each.h"

namespace muonp::optim {

namespace {

constexpr std::int64_t kChunk = 4096;

// Σ f(i) over [0, n): one partial sum a chunk, then the chunks in order.
template <class F>
double sum_in_chunks(core::Queue& queue, std::int64_t n, const F& f) {
  std::vector<double> partial(static_cast<std::size_t>((n + kChunk - 1) / kChunk));
  double* sums = partial.data();
  core::for_each_row(queue, static_cast<std::int64_t>(partial.size()), kChunk, [=](const core::Row& chunk) {
    const std::int64_t begin = chunk.index * kChunk, end = std::min(n, begin + kChunk);
    double sum = 0;
    for (std::int64_t i = begin; i < end; ++i) sum += f(i);
    sums[chunk.index] = sum;
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

}  // namespace

SquareSum sum_of_squares(core::Queue& queue, const core::Tensor& piece) {
  const float* x = piece.data<float>();
  const double sum = sum_in_chunks(queue, piece.size(), [=](std::int64_t i) {
    const double value = x[i];
    return value * value;
  });
  return {.sum = sum, .finite = std::isfinite(sum)};
}

double inner_product(core::Queue& queue, const core::Tensor& a, const core::Tensor& b) {
  MUONP_ASSERT(a.size() == b.size(), "{} and {} elements", a.size(), b.size());
  const float *x = a.data<float>(), *y = b.data<float>();
  return sum_in_chunks(queue, a.size(), [=](std::int64_t i) { return static_cast<double>(x[i]) * y[i]; });
}

double clip_scale(double norm, double limit) {
  MUONP_ASSERT(std::isfinite(norm), "gradient norm {}: the step must be skipped, not clipped", norm);
  return limit > 0 && norm > limit ? limit / norm : 1.0;
}

}  // namespace muonp::optim
