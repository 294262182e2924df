// Compiled without associative-math: sums must keep the order of the ranks whatever the vectoriser does.
#include "dist/comm/reduction.h"

#include <algorithm>

namespace muonp::dist {

namespace {

using core::bfloat16;
using core::Dtype;
using core::float16;

constexpr std::int64_t kTile = 1024;  // accumulators on the stack: they stay in the first-level cache

struct Sum {
  float operator()(float a, float b) const { return a + b; }
  double operator()(double a, double b) const { return a + b; }
  std::int32_t operator()(std::int32_t a, std::int32_t b) const {  // unsigned: wrapping is defined
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
};
// b != b: a NaN on the right wins; one on the left stays because no comparison with it holds.
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return b > a || b != b ? b : a;
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return b < a || b != b ? b : a;
  }
};

// T: stored type. A: type of the accumulator.
template <class T, class A, class F>
void reduce(std::span<const T* const> sources, T* to, std::int64_t count, const F& f) {
  A tile[kTile];
  for (std::int64_t begin = 0; begin < count; begin += kTile) {
    const std::int64_t n = std::min(kTile, count - begin);
    for (std::int64_t i = 0; i < n; ++i) tile[i] = static_cast<A>(sources[0][begin + i]);
    for (const T* source : sources.subspan(1))
      for (std::int64_t i = 0; i < n; ++i) tile[i] = f(tile[i], static_cast<A>(source[begin + i]));
    for (std::int64_t i = 0; i < n; ++i) to[begin + i] = static_cast<T>(tile[i]);
  }
}

template <class T, class A>
void reduce(std::span<const T* const> sources, T* to, std::int64_t count, Reduce op) {
  switch (op) {
    case Reduce::sum:
      return reduce<T, A>(sources, to, count, Sum{});
    case Reduce::max:
      return reduce<T, A>(sources, to, count, Max{});
    case Reduce::min:
      return reduce<T, A>(sources, to, count, Min{});
  }
}

template <class T, class A>
void reduce_as(std::span<const void* const> sources, void* to, std::int64_t count, Reduce op) {
  std::vector<const T*> typed;
  for (const void* source : sources) typed.push_back(static_cast<const T*>(source));
  reduce<T, A>(typed, static_cast<T*>(to), count, op);
}

}  // namespace

void reduce_in_order(std::span<const void* const> sources, void* to, std::int64_t count, Dtype dtype, Reduce op) {
  MUONP_ASSERT(!sources.empty(), "nothing to reduce");
  switch (dtype) {
    case Dtype::float32:
      return reduce_as<float, float>(sources, to, count, op);
    case Dtype::bfloat16:
      return reduce_as<bfloat16, float>(sources, to, count, op);
    case Dtype::float16:
      return reduce_as<float16, float>(sources, to, count, op);
    case Dtype::int32:
      return reduce_as<std::int32_t, std::int32_t>(sources, to, count, op);
    case Dtype::tf32:
    case Dtype::uint8:
      break;
  }
  MUONP_ASSERT(false, "{} is not reduced", name_of(dtype));
}

void reduce_in_order(std::span<const double* const> sources, double* to, std::int64_t count, Reduce op) {
  MUONP_ASSERT(!sources.empty(), "nothing to reduce");
  reduce<double, double>(sources, to, count, op);
}

}  // namespace muonp::dist
