#include "core/autograd/ops/residual.h"

#include "core/autograd/ops/common.h"
#include "core/base/rng.h"

namespace muonp::core::ops {

namespace {

template <class T>
struct Sum {
  const T *left, *right;
  Written<T> out;
  using Elements = ElementArrays<&Sum::left, &Sum::right, &Sum::out>;
  MUONP_HD void operator()(std::int64_t i) const { out[i] = T(float(left[i]) + float(right[i])); }
};

}  // namespace

Tensor sum_of_terms(Tape& tape, const Variable& a, const Variable& b) {
  const Tensor av = a->value, bv = b->value;
  MUONP_ASSERT(av.shape() == bv.shape() && av.dtype() == bv.dtype(), "{} {} + {} {}", name_of(av.dtype()),
               to_string(av.shape()), name_of(bv.dtype()), to_string(bv.shape()));
  return tape.activation(av.shape(), av.dtype());
}

Variable sum_result(Tape& tape, const Variable& a, const Variable& b, const Tensor& sum) {
  Variable out = tape.result(sum, wanted(a) || wanted(b));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, da = a->gradient, db = b->gradient, dout = out->gradient] {
    Tensor dy = take_gradient(dout);
    if (!dy) return;
    if (db) add_gradient(tape, *db, dy);
    if (da) add_gradient(tape, *da, std::move(dy));
  });
  return out;
}

Variable add(Tape& tape, const Variable& a, const Variable& b) {
  const Tensor av = a->value, bv = b->value, y = sum_of_terms(tape, a, b);
  with_float_type(y.dtype(), [&]<class T>(T) {
    for_each(tape.queue(), y.size(), Sum<T>{av.data<T>(), bv.data<T>(), {y.data<T>()}});
  });
  return sum_result(tape, a, b, y);
}

namespace {

// to[i] = from[i]·(kept ? 1/(1 − p) : 0), four elements a call: global element e uses word e mod 4 of Philox block
// e / 4.
template <class T>
struct Drop {
  const T* from;
  T* to;
  std::int64_t first, size;  // global index of element 0, and elements
  std::uint64_t seed, stream;
  float p, scale;

  MUONP_HD void operator()(std::int64_t i) const {
    const std::int64_t block = first / 4 + i, base = 4 * block - first;  // base: local index of word 0
    const Random4 r = philox(seed, stream, static_cast<std::uint64_t>(block));
    for (int k = 0; k < 4; ++k) {
      const std::int64_t at = base + k;
      if (at >= 0 && at < size) to[at] = T(uniform_from(r.v[k]) < p ? 0.0f : float(from[at]) * scale);
    }
  }
};

template <class T>
void drop_as(Queue& queue, const DropoutMask& mask, const Tensor& from, const Tensor& to) {
  const std::int64_t first = mask.first_element, size = from.size();
  const Drop<T> kernel{from.data<T>(),
                       to.data<T>(),
                       first,
                       size,
                       mask.seed,
                       mask.stream,
                       static_cast<float>(mask.probability),
                       static_cast<float>(1 / (1 - mask.probability))};
  for_each(queue, (first + size + 3) / 4 - first / 4, kernel);
}

}  // namespace

void drop(Queue& queue, const DropoutMask& mask, const Tensor& from, const Tensor& to) {
  with_float_type(from.dtype(), [&]<class T>(T) { drop_as<T>(queue, mask, from, to); });
}

Variable dropout(Tape& tape, const Variable& x, const DropoutMask& mask) {
  MUONP_ASSERT(mask.probability >= 0 && mask.probability < 1, "dropout probability {}", mask.probability);
  MUONP_ASSERT(mask.first_element >= 0, "first element {}", mask.first_element);
  if (mask.probability == 0) return x;
  const Tensor xv = x->value, y = tape.activation(xv.shape(), xv.dtype());
  drop(tape.queue(), mask, xv, y);
  Variable out = tape.result(y, wanted(x));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, mask, dx = x->gradient, dout = out->gradient] {
    Tensor dy = take_own_gradient(tape, dout);
    if (!dy) return;
    drop(tape.queue(), mask, dy, dy);
    add_gradient(tape, *dx, std::move(dy));
  });
  return out;
}

}  // namespace muonp::core::ops
