#include "core/ops/residual.h"

#include "core/ops/common.h"
#include "core/rng.h"

namespace muonp::core::ops {

namespace {

Tensor copy_of(Tape& tape, const Tensor& from) {
  const Tensor to = tape.activation(from.shape(), from.dtype());
  with_float_type(from.dtype(), [&]<class T>(T) {
    const T* in = from.data<T>();
    T* out = to.data<T>();
    for_each(tape.queue(), from.size(), [=](std::int64_t i) { out[i] = in[i]; });
  });
  return to;
}

}  // namespace

Variable add(Tape& tape, const Variable& a, const Variable& b) {
  const Tensor av = a->value, bv = b->value;
  MUONP_ASSERT(av.shape() == bv.shape() && av.dtype() == bv.dtype(), "{} {} + {} {}", name_of(av.dtype()),
               to_string(av.shape()), name_of(bv.dtype()), to_string(bv.shape()));
  const Tensor y = tape.activation(av.shape(), av.dtype());
  with_float_type(av.dtype(), [&]<class T>(T) {
    const T *left = av.data<T>(), *right = bv.data<T>();
    T* out = y.data<T>();
    for_each(tape.queue(), y.size(), [=](std::int64_t i) { out[i] = T(float(left[i]) + float(right[i])); });
  });
  Variable out = tape.result(y, wanted(a) || wanted(b));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, da = a->gradient, db = b->gradient, dout = out->gradient] {
    Tensor dy = take(dout);
    if (!dy) return;
    if (da && db) {  // each needs storage of its own, because later steps add to it in place
      give(tape, *db, copy_of(tape, dy));
      give(tape, *da, std::move(dy));
    } else {
      give(tape, da ? *da : *db, std::move(dy));
    }
  });
  return out;
}

namespace {

constexpr std::int64_t kGroup = 256;  // elements whose random numbers are made together

// to[i] = from[i]·(kept ? 1/(1 − p) : 0). Element e uses word e mod 4 of Philox block e / 4.
template <class T>
void apply(Queue& queue, const DropoutMask& mask, const T* from, T* to, std::int64_t size) {
  const float p = static_cast<float>(mask.probability),
              scale = static_cast<float>(1 / (1 - mask.probability));
  const std::uint64_t seed = mask.seed, stream = mask.stream;
  const std::int64_t first = mask.first_element;
  const std::int64_t first_group = first / kGroup, last_group = (first + size + kGroup - 1) / kGroup;
  for_each_row(queue, last_group - first_group, kGroup, [=](const Row& row) {
    const std::int64_t base = (first_group + row.index) * kGroup;  // global element
    float random[kGroup];
    float* u = random;
    Row{0, kGroup / 4}.each([=](std::int64_t b) {
      const Random4 r = philox(seed, stream, static_cast<std::uint64_t>(base / 4 + b));
      for (int k = 0; k < 4; ++k) u[4 * b + k] = uniform_from(r.v[k]);
    });
    const std::int64_t begin = std::max(base, first), end = std::min(base + kGroup, first + size);
    const std::int64_t local = begin - first;
    u += begin - base;
    Row{0, end - begin}.each(
        [=](std::int64_t i) { to[local + i] = T(u[i] < p ? 0.0f : float(from[local + i]) * scale); });
  });
}

}  // namespace

Variable dropout(Tape& tape, const Variable& x, const DropoutMask& mask) {
  MUONP_ASSERT(mask.probability >= 0 && mask.probability < 1, "dropout probability {}", mask.probability);
  MUONP_ASSERT(mask.first_element >= 0, "first element {}", mask.first_element);
  if (mask.probability == 0) return x;
  const Tensor xv = x->value, y = tape.activation(xv.shape(), xv.dtype());
  with_float_type(xv.dtype(),
                  [&]<class T>(T) { apply(tape.queue(), mask, xv.data<T>(), y.data<T>(), xv.size()); });
  Variable out = tape.result(y, wanted(x));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, mask, dx = x->gradient, dout = out->gradient] {
    Tensor dy = take(dout);
    if (!dy) return;
    with_float_type(dy.dtype(),
                    [&]<class T>(T) { apply(tape.queue(), mask, dy.data<T>(), dy.data<T>(), dy.size()); });
    give(tape, *dx, std::move(dy));
  });
  return out;
}

}  // namespace muonp::core::ops
