#include "core/ops/common.h"

namespace muonp::core::ops {

void give(Tape& tape, Gradient& to, Tensor gradient) {
  MUONP_ASSERT(gradient.dtype() == to.dtype && gradient.size() == element_count(to.shape),
               "a gradient {} {} of a value {} {}", name_of(gradient.dtype()), to_string(gradient.shape()),
               name_of(to.dtype), to_string(to.shape));
  if (!to.tensor) {
    to.tensor = gradient.view(to.shape);
    return;
  }
  with_float_type(to.dtype, [&]<class T>(T) {
    T* total = to.tensor.data<T>();
    const T* more = gradient.data<T>();
    for_each(tape.queue(), gradient.size(),
             [=](std::int64_t i) { total[i] = T(float(total[i]) + float(more[i])); });
  });
}

void zero(Queue& queue, const Tensor& t) {
  auto* words = static_cast<std::uint16_t*>(t.raw());
  for_each(queue, t.bytes() / 2, [=](std::int64_t i) { words[i] = 0; });
}

}  // namespace muonp::core::ops
