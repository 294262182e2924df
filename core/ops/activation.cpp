#include "core/ops/activation.h"

#include "core/math.h"
#include "core/ops/common.h"

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

template <class F>
Variable elementwise(Tape& tape, const Variable& x) {
  const Tensor xv = x->value, y = tape.activation(xv.shape(), xv.dtype());
  with_float_type(xv.dtype(), [&]<class T>(T) {
    const T* in = xv.data<T>();
    T* out = y.data<T>();
    for_each(tape.queue(), xv.size(), [=](std::int64_t i) { out[i] = T(F::value(float(in[i]))); });
  });
  Variable out = tape.result(y, wanted(x));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, xv, dx = x->gradient, dout = out->gradient] {
    Tensor dy = take(dout);
    if (!dy) return;
    with_float_type(dy.dtype(), [&]<class T>(T) {
      const T* in = xv.data<T>();
      T* d = dy.data<T>();
      for_each(tape.queue(), xv.size(),
               [=](std::int64_t i) { d[i] = T(float(d[i]) * F::slope(float(in[i]))); });
    });
    give(tape, *dx, std::move(dy));
  });
  return out;
}

template <class T>
void swiglu_forward(Queue& queue, const Tensor& x, const Tensor& y) {
  const std::int64_t hidden = last_dim(y);
  const T* in = x.data<T>();
  T* out = y.data<T>();
  for_each_row(queue, row_count(y), hidden, [=](const Row& row) {
    const T* a = in + row.index * 2 * hidden;
    const T* b = a + hidden;
    T* o = out + row.index * hidden;
    row.each([=](std::int64_t c) { o[c] = T(float(a[c]) * math::sigmoid(float(a[c])) * float(b[c])); });
  });
}

template <class T>
void swiglu_backward(Queue& queue, const Tensor& x, const Tensor& dy, const Tensor& dx) {
  const std::int64_t hidden = last_dim(dy);
  const T* in = x.data<T>();
  const T* d = dy.data<T>();
  T* to = dx.data<T>();
  for_each_row(queue, row_count(dy), hidden, [=](const Row& row) {
    const T* a = in + row.index * 2 * hidden;
    const T* e = d + row.index * hidden;
    T* o = to + row.index * 2 * hidden;
    row.each([=](std::int64_t c) {
      const float gate = float(a[c]), up = float(a[hidden + c]), s = math::sigmoid(gate);
      o[c] = T(float(e[c]) * up * (s + gate * s * (1.0f - s)));
      o[hidden + c] = T(float(e[c]) * gate * s);
    });
  });
}

}  // namespace

Variable gelu(Tape& tape, const Variable& x) { return elementwise<Gelu>(tape, x); }

Variable relu_squared(Tape& tape, const Variable& x) { return elementwise<ReluSquared>(tape, x); }

Variable swiglu(Tape& tape, const Variable& x) {
  const Tensor xv = x->value;
  MUONP_ASSERT(last_dim(xv) % 2 == 0, "swiglu of {}", to_string(xv.shape()));
  Shape shape = xv.shape();
  shape.back() /= 2;
  const Tensor y = tape.activation(std::move(shape), xv.dtype());
  with_float_type(xv.dtype(), [&]<class T>(T) { swiglu_forward<T>(tape.queue(), xv, y); });
  Variable out = tape.result(y, wanted(x));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, xv, dx = x->gradient, dout = out->gradient] {
    const Tensor dy = take(dout);
    if (!dy) return;
    const Tensor to = tape.activation(xv.shape(), xv.dtype());
    with_float_type(dy.dtype(), [&]<class T>(T) { swiglu_backward<T>(tape.queue(), xv, dy, to); });
    give(tape, *dx, to);
  });
  return out;
}

}  // namespace muonp::core::ops
