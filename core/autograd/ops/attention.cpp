#include "core/autograd/ops/attention.h"

#include "core/autograd/ops/common.h"
#include "core/base/index.h"
#include "core/device/attention.h"
#include "core/device/host_view.h"

namespace muonp::core::ops {

Variable attention(Tape& tape, const Variable& qkv, std::int64_t heads) {
  const Tensor in = qkv->value;
  MUONP_ASSERT(in.rank() == 3 && heads > 0 && in.dim(2) % (3 * heads) == 0, "attention with {} heads over {}", heads,
               to_string(in.shape()));
  const std::int64_t batch = in.dim(0), time = in.dim(1), width = in.dim(2) / 3;
  const AttentionShape shape{batch, time, heads, width / heads};
  const Tensor y = tape.activation({batch, time, width}, in.dtype());
  const Tensor normaliser = tape.activation({batch, heads, time}, Dtype::float32);
  attention_forward(tape.device(), shape, in, y, normaliser);
  Variable out = tape.result(y, wanted(qkv));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, shape, in, y, normaliser, dx = qkv->gradient, dout = out->gradient] {
    const Tensor dy = take_gradient(dout);
    if (!dy) return;
    const Tensor dqkv = tape.activation(in.shape(), in.dtype());
    attention_backward(tape.device(), shape, in, y, normaliser, dy, dqkv);
    add_gradient(tape, *dx, dqkv);
  });
  return out;
}

RotaryTable::RotaryTable(std::int64_t longest, std::int64_t head_size) : longest_(longest), half_(head_size / 2) {
  MUONP_ASSERT(longest >= 0 && head_size >= 0 && head_size % 2 == 0, "angles of {} positions, heads of {}", longest,
               head_size);
}

// In double precision: t·frequency reaches thousands of radians.
const Tensor& RotaryTable::on(Device& device) {
  if (device_ == &device) return table_;
  std::vector<double> frequencies(static_cast<std::size_t>(half_));
  for (std::int64_t i = 0; i < half_; ++i)
    frequencies[at(i)] = std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half_));
  const double* frequency = frequencies.data();
  const Tensor table = Tensor::empty(device, {longest_, 2, half_}, Dtype::float32, Category::other);
  const HostView host(device.queue(), table, Access::write);
  float* to = host.data<float>();
  constexpr std::int64_t kCost = 16;  // an entry costs as much as so many elements of an ordinary kernel
  for_each_host_row(device.queue(), longest_, kCost * half_, [to, frequency, half = half_](const Row& row) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(row.index) * frequency[i];
      to[row.index * 2 * half + i] = static_cast<float>(std::cos(angle));
      to[(row.index * 2 + 1) * half + i] = static_cast<float>(std::sin(angle));
    }
  });
  host.upload();
  table_ = table;
  device_ = &device;
  return table_;
}

namespace {

// direction +1 turns forward, −1 back. `to` may be `from`.
template <class T>
struct Turn {
  const float* table;
  std::int64_t time, heads, size;  // size: of a head
  float direction;
  const T* from;
  T* to;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t half = size / 2;
    const float* cosine = table + row.index % time * size;
    const float sign = direction;
    const T* i = from + row.index * row.cols;
    T* o = to + row.index * row.cols;
    for (std::int64_t h = 0; h < 2 * heads; ++h, i += size, o += size)  // queries and keys lie side by side
      row.part(half).each([=](std::int64_t c) {
        const float a = float(i[c]), b = float(i[half + c]), s = sign * cosine[half + c];
        o[c] = T(a * cosine[c] - b * s);
        o[half + c] = T(b * cosine[c] + a * s);
      });
    if (o != i) row.part(heads * size).each([=](std::int64_t c) { o[c] = i[c]; });  // values
  }
};

template <class T>
void turn(Queue& queue, const Tensor& table, std::int64_t heads, float direction, const Tensor& from, const Tensor& to) {
  const std::int64_t cols = last_dim(from);
  for_each_row(
      queue, row_count(from), cols,
      Turn<T>{table.data<float>(), from.dim(1), heads, cols / (3 * heads), direction, from.data<T>(), to.data<T>()});
}

}  // namespace

Variable rotary(Tape& tape, const Variable& qkv, std::int64_t heads, RotaryTable& angles) {
  const Tensor in = qkv->value;
  MUONP_ASSERT(in.rank() == 3 && heads > 0 && in.dim(2) % (6 * heads) == 0, "rotary positions with {} heads over {}", heads,
               to_string(in.shape()));
  MUONP_ASSERT(angles.head_size() * 3 * heads == in.dim(2) && in.dim(1) <= angles.longest(),
               "angles of {} positions, heads of {}, for {} heads over {}", angles.longest(), angles.head_size(), heads,
               to_string(in.shape()));
  const Tensor table = angles.on(tape.device());
  const Tensor y = tape.activation(in.shape(), in.dtype());
  with_float_type(in.dtype(), [&]<class T>(T) { turn<T>(tape.queue(), table, heads, 1, in, y); });
  Variable out = tape.result(y, wanted(qkv));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, table, heads, dx = qkv->gradient, dout = out->gradient] {
    Tensor dy = take_gradient(dout);
    if (!dy) return;
    with_float_type(dy.dtype(), [&]<class T>(T) { turn<T>(tape.queue(), table, heads, -1, dy, dy); });
    add_gradient(tape, *dx, std::move(dy));
  });
  return out;
}

}  // namespace muonp::core::ops
