#include "core/autograd/ops/activation.h"

#include "core/autograd/ops/common.h"
#include "core/base/math.h"

namespace muonp::core::ops {

namespace {

template <class T>
struct ReluSquared {
  const T* x;
  Written<T> y;
  using Elements = ElementArrays<&ReluSquared::x, &ReluSquared::y>;
  MUONP_HD void operator()(std::int64_t i) const {
    const float v = float(x[i]);
    y[i] = T(v > 0.0f ? v * v : (v != v ? v : 0.0f));
  }
};

template <class T>
struct ReluSquaredGradient {
  const T* x;
  T* gradient;  // dy becomes dx
  using Elements = ElementArrays<&ReluSquaredGradient::x, &ReluSquaredGradient::gradient>;
  MUONP_HD void operator()(std::int64_t i) const {
    const float v = float(x[i]);
    gradient[i] = T(float(gradient[i]) * (v > 0.0f ? 2.0f * v : (v != v ? v : 0.0f)));
  }
};

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

Variable relu_squared(Tape& tape, const Variable& x) {
  const Tensor xv = x->value, y = tape.activation(xv.shape(), xv.dtype());
  with_float_type(xv.dtype(), [&]<class T>(T) {
    for_each(tape.queue(), xv.size(), ReluSquared<T>{xv.data<T>(), {y.data<T>()}});
  });
  Variable out = tape.result(y, wanted(x));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, xv, dx = x->gradient, dout = out->gradient] {
    Tensor dy = take_own_gradient(tape, dout);
    if (!dy) return;
    with_float_type(dy.dtype(), [&]<class T>(T) {
      for_each(tape.queue(), xv.size(), ReluSquaredGradient<T>{xv.data<T>(), dy.data<T>()});
    });
    add_gradient(tape, *dx, std::move(dy));
  });
  return out;
}

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
