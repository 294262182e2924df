#include "core/autograd/ops/rotary.h"

#include "core/autograd/ops/common.h"
#include "core/base/index.h"
#include "core/device/host_view.h"

namespace muonp::core::ops {

std::vector<double> rotary_frequencies(std::int64_t size, double base) {
  MUONP_ASSERT(size >= 0 && size % 2 == 0, "rotary positions of heads of {}", size);
  const std::int64_t half = size / 2;
  std::vector<double> frequencies(static_cast<std::size_t>(half));
  for (std::int64_t i = 0; i < half; ++i)
    frequencies[at(i)] = std::pow(base, -static_cast<double>(i) / static_cast<double>(half));
  return frequencies;
}

RotaryTable::RotaryTable(std::vector<double> frequencies, std::int64_t longest, double scale)
    : frequencies_(std::move(frequencies)), longest_(longest), scale_(scale) {
  MUONP_ASSERT(longest >= 0, "angles of {} positions", longest);
}

// In double precision: t·frequency reaches thousands of radians.
const Tensor& RotaryTable::on(Device& device) {
  if (device_ == &device) return table_;
  const Tensor table = Tensor::empty(device, {longest_, 2, half()}, Dtype::float32, Category::other);
  const HostView host(device.queue(), table, Access::write);
  float* to = host.data<float>();
  constexpr std::int64_t kCost = 16;  // an entry costs as much as so many elements of an ordinary kernel
  const auto fill = [to, frequency = frequencies_.data(), half = half(), scale = scale_](const Row& row) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(row.index) * frequency[i];
      to[row.index * 2 * half + i] = static_cast<float>(std::cos(angle) * scale);
      to[(row.index * 2 + 1) * half + i] = static_cast<float>(std::sin(angle) * scale);
    }
  };
  for_each_host_row(device.queue(), longest_, kCost * half(), fill);
  host.upload();
  table_ = table;
  device_ = &device;
  return table_;
}

namespace {

// The position of row b·time + t: t, from the begin of its document, and on from what the sequence has already.
struct Positions {
  const std::int32_t* begins;   // [batch·time], or null
  const std::int32_t* lengths;  // [batch], or null
  std::int64_t time;

  MUONP_HD std::int64_t operator()(std::int64_t row) const {
    std::int64_t position = row % time;
    if (begins) position -= begins[row];
    if (lengths) position += lengths[row / time];
    return position;
  }
};

// direction +1 turns forward, −1 back. `to` may be `from`.
template <class T>
struct Turn {
  const float* table;
  Positions position;
  std::int64_t turned, size;  // heads that are turned, which lie side by side; elements of one
  float direction;
  const T* from;
  T* to;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t half = size / 2;
    const float *cosine = table + position(row.index) * size, *sine = cosine + half;
    const float sign = direction;
    const T* i = from + row.index * row.cols;
    T* o = to + row.index * row.cols;
    for (std::int64_t h = 0; h < turned; ++h, i += size, o += size)
      row.part(half).over(
          [=](T first, T second, float by, float across, T& to_first, T& to_second) {
            const float a = float(first), b = float(second), s = sign * across;
            to_first = T(a * by - b * s);
            to_second = T(b * by + a * s);
          },
          i, i + half, cosine, sine, Written<T>{o}, Written<T>{o + half});
    if (o != i) row.part(row.cols - turned * size).over([](T value, T& copy) { copy = value; }, i, Written<T>{o});  // values
  }
};

void turn(Queue& queue, const Tensor& table, const Positions& positions, const AttentionHeads& heads, float direction,
          const Tensor& from, const Tensor& to) {
  with_float_type(from.dtype(), [&]<class T>(T) {
    for_each_row(queue, row_count(from), last_dim(from),
                 Turn<T>{table.data<float>(), positions, heads.queries + heads.keys, heads.size, direction, from.data<T>(),
                         to.data<T>()});
  });
}

// `longest`: positions that the table has to have.
void check(const Tensor& in, const AttentionHeads& heads, const RotaryTable& angles, std::int64_t longest) {
  MUONP_ASSERT(in.rank() == 3 && in.dim(2) == heads.width(), "rotary positions with {} and {} heads of {} over {}",
               heads.queries, heads.keys, heads.size, to_string(in.shape()));
  MUONP_ASSERT(angles.head_size() == heads.size && longest <= angles.longest(),
               "angles of {} positions, heads of {}, for {} positions of heads of {}", angles.longest(), angles.head_size(),
               longest, heads.size);
}

const std::int32_t* ids_of(const Tensor& t) { return t ? t.data<std::int32_t>() : nullptr; }

}  // namespace

Variable rotary(Tape& tape, const Variable& qkv, const AttentionHeads& heads, RotaryTable& angles, const Tensor& begins) {
  const Tensor in = qkv->value;
  check(in, heads, angles, in.dim(1));
  MUONP_ASSERT(!begins || begins.shape() == (Shape{in.dim(0), in.dim(1)}), "begins of documents {} for {}",
               to_string(begins.shape()), to_string(in.shape()));
  const Tensor table = angles.on(tape.device());
  const Positions positions{ids_of(begins), nullptr, in.dim(1)};
  const Tensor y = tape.activation(in.shape(), in.dtype());
  turn(tape.queue(), table, positions, heads, 1, in, y);
  Variable out = tape.result(y, wanted(qkv));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, table, begins, positions, heads, dx = qkv->gradient, dout = out->gradient] {
    Tensor dy = take_own_gradient(tape, dout);
    if (!dy) return;
    turn(tape.queue(), table, positions, heads, -1, dy, dy);
    add_gradient(tape, *dx, std::move(dy));
  });
  return out;
}

Variable rotary_at(Tape& tape, const Variable& qkv, const AttentionHeads& heads, RotaryTable& angles,
                   std::span<const std::int64_t> lengths) {
  const Tensor in = qkv->value;
  MUONP_ASSERT(!tape.recording(), "positions of generation on a tape that records");
  MUONP_ASSERT(in.rank() == 3 && std::ssize(lengths) == in.dim(0), "{} lengths for {}", lengths.size(),
               to_string(in.shape()));
  const Tensor host = Tensor::on_host({in.dim(0)}, Dtype::int32);
  std::int64_t longest = 0;
  for (std::int64_t b = 0; b < in.dim(0); ++b) {
    longest = std::max(longest, lengths[at(b)] + in.dim(1));
    host.data<std::int32_t>()[b] = static_cast<std::int32_t>(lengths[at(b)]);
  }
  check(in, heads, angles, longest);
  const Tensor starts = on_device(tape, host), y = tape.activation(in.shape(), in.dtype());
  turn(tape.queue(), angles.on(tape.device()), {nullptr, ids_of(starts), in.dim(1)}, heads, 1, in, y);
  return tape.result(y, false);
}

}  // namespace muonp::core::ops
