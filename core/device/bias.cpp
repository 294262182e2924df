#include "core/device/bias.h"

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

}  // namespace

void add_bias(Queue& queue, const Product& p) {
  with_float_type(p.c.dtype, [&]<class T>(T) {
    for_each_row(queue, p.m, p.n, AddBias<T>{static_cast<T*>(p.c.data), p.c.stride, static_cast<const T*>(p.bias)});
  });
}

}  // namespace muonp::core
