#include "core/device/epilogue.h"

#include "core/base/math.h"
#include "core/base/storage.h"
#include "core/device/for_each.h"

namespace muonp::core {

namespace {

template <class T>
struct AddBias {
  T* c;
  std::int64_t stride;
  const T* bias;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    T* o = c + row.index * stride;
    const T* b = bias;
    row.over([](T more, T& out) { out = T(float(out) + float(more)); }, b, o);
  }
};

// x/2·(1 + tanh u) = x·sigmoid(2u), with 2u = x·(kLinear + kCubic·x²).
constexpr float kLinear = 1.59576912f, kCubic = 0.0713548163f;

template <class T>
struct Gelu {
  const T* x;
  Written<T> y;
  using Elements = ElementArrays<&Gelu::x, &Gelu::y>;
  MUONP_HD void operator()(std::int64_t i) const {
    const float v = float(x[i]);
    y[i] = T(v * math::sigmoid(v * (kLinear + kCubic * v * v)));
  }
};

template <class T>
struct GeluSlope {
  const T* x;
  T* gradient;
  using Elements = ElementArrays<&GeluSlope::x, &GeluSlope::gradient>;
  MUONP_HD void operator()(std::int64_t i) const {
    const float v = float(x[i]), s = math::sigmoid(v * (kLinear + kCubic * v * v));
    const float slope = s + v * s * (1.0f - s) * (kLinear + 3.0f * kCubic * v * v);
    gradient[i] = T(float(gradient[i]) * slope);
  }
};

void gelu(Queue& queue, Dtype dtype, std::int64_t count, const void* x, void* y) {
  with_float_type(dtype, [&]<class T>(T) {
    for_each(queue, count, Gelu<T>{static_cast<const T*>(x), {static_cast<T*>(y)}});
  });
}

void times_gelu_slope(Queue& queue, Dtype dtype, std::int64_t count, const void* x, void* gradient) {
  with_float_type(dtype, [&]<class T>(T) {
    for_each(queue, count, GeluSlope<T>{static_cast<const T*>(x), static_cast<T*>(gradient)});
  });
}

}  // namespace

void gelu(Queue& queue, const Tensor& x, const Tensor& y) { gelu(queue, x.dtype(), x.size(), x.raw(), y.raw()); }

void times_gelu_slope(Queue& queue, const Tensor& x, const Tensor& gradient) {
  times_gelu_slope(queue, x.dtype(), x.size(), x.raw(), gradient.raw());
}

void multiply_in_parts(Queue& queue, const Product& product) {
  const Epilogue& e = product.epilogue;
  Product simpler = product;
  if (e.gelu == Epilogue::Gelu::none) {
    simpler.epilogue = {};
    queue.multiply(simpler, 1, {0, 0, 0});
    return with_float_type(product.c.dtype, [&]<class T>(T) {
      for_each_row(queue, product.m, product.n,
                   AddBias<T>{static_cast<T*>(product.c.data), product.c.stride, static_cast<const T*>(e.bias)});
    });
  }
  simpler.epilogue = {.bias = e.bias};
  const bool value = e.gelu == Epilogue::Gelu::value;
  if (value) simpler.c = e.before;
  queue.multiply(simpler, 1, {0, 0, 0});
  const std::int64_t count = product.m * product.n;
  if (value)
    gelu(queue, product.c.dtype, count, e.before.data, product.c.data);
  else
    times_gelu_slope(queue, product.c.dtype, count, e.before.data, product.c.data);
}

}  // namespace muonp::core
