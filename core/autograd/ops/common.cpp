#include "core/autograd/ops/common.h"

namespace muonp::core::ops {

namespace {

template <class T>
struct Add {
  T* total;
  const T* more;
  using Elements = ElementArrays<&Add::total, &Add::more>;
  MUONP_HD void operator()(std::int64_t i) const { total[i] = T(float(total[i]) + float(more[i])); }
};

struct Zero {
  std::uint16_t* words;
  MUONP_HD void operator()(std::int64_t i) const { words[i] = 0; }
};

struct Copy {
  const std::uint16_t* from;
  std::uint16_t* to;
  MUONP_HD void operator()(std::int64_t i) const { to[i] = from[i]; }
};

}  // namespace

Tensor take_own_gradient(Tape& tape, const std::shared_ptr<Gradient>& gradient) {
  Tensor taken = take_gradient(gradient);
  if (!taken || !taken.is_shared()) return taken;
  const Tensor own = tape.activation(taken.shape(), taken.dtype());
  copy(tape.queue(), taken, own);
  return own;
}

void add_gradient(Tape& tape, Gradient& to, Tensor gradient) {
  MUONP_ASSERT(gradient.dtype() == to.dtype && gradient.size() == element_count(to.shape),
               "a gradient {} {} of a value {} {}", name_of(gradient.dtype()), to_string(gradient.shape()),
               name_of(to.dtype), to_string(to.shape));
  if (!to.tensor) {
    to.tensor = gradient.view(to.shape);
    return;
  }
  const Tensor total = tape.slot(to).gradient;
  with_float_type(to.dtype, [&]<class T>(T) {
    for_each(tape.queue(), gradient.size(), Add<T>{total.data<T>(), gradient.data<T>()});
  });
}

void zero(Queue& queue, const Tensor& t) {
  if (queue.kind() != DeviceKind::cpu) return t.zero(queue);
  for_each(queue, t.bytes() / 2, Zero{static_cast<std::uint16_t*>(t.raw())});
}

void copy(Queue& queue, const Tensor& from, const Tensor& to) {
  if (queue.kind() != DeviceKind::cpu) return to.copy_from(queue, from);
  for_each(queue, from.bytes() / 2,
           Copy{static_cast<const std::uint16_t*>(from.raw()), static_cast<std::uint16_t*>(to.raw())});
}

Tensor on_device(Tape& tape, const Tensor& host) {
  if (tape.queue().kind() == DeviceKind::cpu) return host;
  const Tensor t = tape.activation(host.shape(), host.dtype());
  tape.queue().write(t.raw(), host.raw(), host.bytes());
  return t;
}

}  // namespace muonp::core::ops
