#include "core/autograd/ops/activation.h"

#include "core/autograd/ops/common.h"
#include "core/base/math.h"

namespace muonp::core::ops {

namespace {

struct Gelu {
  // x/2·(1 + tanh u) = x·sigmoid(2u), with 2u = x·(kLinear + kCubic·x²).
  static constexpr float kLinear = 1.59576912f, kCubic = 0.0713548163f;
  MUONP_HD static float value(float x) { return x * math::sigmoid(x * (kLinear + kCubic * x * x)); }
  MUONP_HD static float slope(float x) {
    const float s = math::sigmoid(x * (kLinear + kCubic * x * x));
    return s + x * s * (1.0f - s) * (kLinear + 3.0f * kCubic * x * x);
  }
};

struct ReluSquared {
  MUONP_HD static float value(float x) { return x > 0.0f ? x * x : (x != x ? x : 0.0f); }
  MUONP_HD static float slope(float x) { return x > 0.0f ? 2.0f * x : (x != x ? x : 0.0f); }
};

template <class F, class T>
struct Apply {
  const T* x;
  Written<T> y;
  using Elements = ElementArrays<&Apply::x, &Apply::y>;
  MUONP_HD void operator()(std::int64_t i) const { y[i] = T(F::value(float(x[i]))); }
};

template <class F, class T>
struct ApplySlope {
  const T* x;
  T* gradient;  // dy becomes dx
  using Elements = ElementArrays<&ApplySlope::x, &ApplySlope::gradient>;
  MUONP_HD void operator()(std::int64_t i) const { gradient[i] = T(float(gradient[i]) * F::slope(float(x[i]))); }
};

template <class F>
Variable elementwise(Tape& tape, const Variable& x) {
  const Tensor xv = x->value, y = tape.activation(xv.shape(), xv.dtype());
  with_float_type(xv.dtype(), [&]<class T>(T) {
    for_each(tape.queue(), xv.size(), Apply<F, T>{xv.data<T>(), {y.data<T>()}});
  });
  Variable out = tape.result(y, wanted(x));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, xv, dx = x->gradient, dout = out->gradient] {
    Tensor dy = take_own_gradient(tape, dout);
    if (!dy) return;
    with_float_type(dy.dtype(), [&]<class T>(T) {
      for_each(tape.queue(), xv.size(), ApplySlope<F, T>{xv.data<T>(), dy.data<T>()});
    });
    add_gradient(tape, *dx, std::move(dy));
  });
  return out;
}

// A row of x is [gate, up], y = gate·sigmoid(gate)·up; row.cols is the width of y.
template <class T>
struct Swiglu {
  const T* x;
  T* y;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T *gate = x + row.index * 2 * row.cols, *up = gate + row.cols;
    T* o = y + row.index * row.cols;
    row.over([](T g, T u, T& out) { out = T(float(g) * math::sigmoid(float(g)) * float(u)); }, gate, up, Written<T>{o});
  }
};

template <class T>
struct SwigluGradient {
  const T *x, *dy;
  T* dx;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t hidden = row.cols;
    const T *a = x + row.index * 2 * hidden, *e = dy + row.index * hidden;
    T* o = dx + row.index * 2 * hidden;
    row.over(
        [](T g, T u, T slope, T& dgate, T& dup) {
          const float gate = float(g), up = float(u), s = math::sigmoid(gate);
          dgate = T(float(slope) * up * (s + gate * s * (1.0f - s)));
          dup = T(float(slope) * gate * s);
        },
        a, a + hidden, e, Written<T>{o}, Written<T>{o + hidden});
  }
};

}  // namespace

Variable gelu(Tape& tape, const Variable& x) { return elementwise<Gelu>(tape, x); }

Variable relu_squared(Tape& tape, const Variable& x) { return elementwise<ReluSquared>(tape, x); }

Variable swiglu(Tape& tape, const Variable& x) {
  const Tensor xv = x->value;
  MUONP_ASSERT(last_dim(xv) % 2 == 0, "swiglu of {}", to_string(xv.shape()));
  Shape shape = xv.shape();
  shape.back() /= 2;
  const Tensor y = tape.activation(std::move(shape), xv.dtype());
  with_float_type(xv.dtype(), [&]<class T>(T) {
    for_each_row(tape.queue(), row_count(y), last_dim(y), Swiglu<T>{xv.data<T>(), y.data<T>()});
  });
  Variable out = tape.result(y, wanted(x));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, xv, dx = x->gradient, dout = out->gradient] {
    const Tensor dy = take_gradient(dout);
    if (!dy) return;
    const Tensor to = tape.activation(xv.shape(), xv.dtype());
    with_float_type(dy.dtype(), [&]<class T>(T) {
      for_each_row(tape.queue(), row_count(dy), last_dim(dy), SwigluGradient<T>{xv.data<T>(), dy.data<T>(), to.data<T>()});
    });
    add_gradient(tape, *dx, to);
  });
  return out;
}

}  // namespace muonp::core::ops
