#include "core/autograd/ops/head_norm.h"

#include "core/autograd/ops/common.h"

namespace muonp::core::ops {

namespace {

// A row of these kernels is one head of one position; heads of a position lie one behind the other, queries first.
struct HeadOrder {
  std::int64_t queries, keys;
  MUONP_HD std::int64_t all() const { return queries + 2 * keys; }
  // Of row r: its gain, or null where it is a value.
  template <class T>
  MUONP_HD const T* gain(std::int64_t r, const T* query_gain, const T* key_gain) const {
    const std::int64_t head = r % all();
    if (head < queries) return query_gain;
    return head < queries + keys ? key_gain : nullptr;
  }
};

template <class T>
struct NormaliseHead {
  const T *x, *query_gain, *key_gain;
  T* y;
  float* scale;  // of each row
  HeadOrder order;
  float epsilon;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T *i = x + row.index * row.cols, *g = order.gain(row.index, query_gain, key_gain);
    T* o = y + row.index * row.cols;
    if (!g) return row.over([](T value, T& out) { out = value; }, i, Written<T>{o});
    const float square = row.sum([](T value) { return float(value) * float(value); }, i);
    const float by = 1.0f / sqrtf(square / static_cast<float>(row.cols) + epsilon);
    scale[row.index] = by;
    row.over([=](T value, T more, T& out) { out = T(float(value) * by * float(more)); }, i, g, Written<T>{o});
  }
};

// Σ dy·n over `count` heads from head `first` of every position on.
template <class T>
struct HeadGainGradient {
  static constexpr int kSums = 1;
  const T *x, *dy;
  const float* scale;
  HeadOrder order;
  std::int64_t first, count, size;

  MUONP_COLUMN_KERNEL auto row(std::int64_t r, const Use& use) const {
    const std::int64_t head = r / count * order.all() + first + r % count;
    const float by = scale[head];
    return use([=](T value, T slope, float& sum) { sum += float(slope) * float(value) * by; }, x + head * size,
               dy + head * size);
  }
};

// As in norm.cpp, over dy itself: with e = dy·gain, scale·(e − n·mean(e·n)).
template <class T>
struct HeadInputGradient {
  const T *x, *query_gain, *key_gain;
  T* dy;
  const float* scale;
  HeadOrder order;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T *i = x + row.index * row.cols, *g = order.gain(row.index, query_gain, key_gain);
    T* e = dy + row.index * row.cols;
    if (!g) return;
    const float by = scale[row.index];
    const T* slopes = e;
    const float mean =
        row.sum([=](T slope, T more, T value) { return float(slope) * float(more) * float(value) * by; }, slopes, g, i) /
        static_cast<float>(row.cols);
    row.over([=](T value, T more, T& slope) { slope = T(by * (float(slope) * float(more) - float(value) * by * mean)); }, i,
             g, e);
  }
};

struct Gains {
  Parameter *query, *key;
};

template <class T>
void backward(Tape& tape, const Tensor& x, const AttentionHeads& heads, const Gains& gains, const Tensor& scale,
              const Tensor& dy) {
  const HeadOrder order{heads.queries, heads.keys};
  const std::int64_t positions = row_count(x), size = heads.size;
  const auto sum = [&](Parameter& gain, std::int64_t first, std::int64_t count) {
    if (!gain.trained) return;
    const GradientSlot slot = tape.slot(gain);
    column_sums(tape.queue(), positions * count, size, {{{slot.gradient.data<float>(), slot.add}}},
                HeadGainGradient<T>{x.data<T>(), dy.data<T>(), scale.data<float>(), order, first, count, size});
  };
  sum(*gains.key, heads.queries, heads.keys);
  sum(*gains.query, 0, heads.queries);
  tape.acquire({gains.query, gains.key});
  for_each_row(tape.queue(), positions * order.all(), size,
               HeadInputGradient<T>{x.data<T>(), gains.query->value.data<T>(), gains.key->value.data<T>(), dy.data<T>(),
                                    scale.data<float>(), order});
}

}  // namespace

Variable head_norm(Tape& tape, const Variable& qkv, const AttentionHeads& heads, Parameter& query_gain, Parameter& key_gain,
                   float epsilon) {
  const Tensor in = qkv->value;
  const Gains gains{&query_gain, &key_gain};
  tape.acquire({gains.query, gains.key});
  MUONP_ASSERT(last_dim(in) == heads.width(), "norms of {} and {} heads of {} over {}", heads.queries, heads.keys,
               heads.size, to_string(in.shape()));
  for (const Parameter* gain : {gains.query, gains.key})
    MUONP_ASSERT(gain->shape == Shape{heads.size} && gain->value.dtype() == in.dtype(), "{} {} {} for {} heads of {}",
                 gain->name, name_of(gain->value.dtype()), to_string(gain->shape), name_of(in.dtype()), heads.size);
  const HeadOrder order{heads.queries, heads.keys};
  const std::int64_t rows = row_count(in) * order.all();
  const Tensor y = tape.activation(in.shape(), in.dtype()), scale = tape.activation({rows}, Dtype::float32);
  with_float_type(in.dtype(), [&]<class T>(T) {
    for_each_row(tape.queue(), rows, heads.size,
                 NormaliseHead<T>{in.data<T>(), query_gain.value.data<T>(), key_gain.value.data<T>(), y.data<T>(),
                                  scale.data<float>(), order, epsilon});
  });

  Variable out = tape.result(y, true);
  if (!tape.recording()) return out;
  tape.record({gains.query, gains.key}, [&tape, in, heads, gains, scale, dx = qkv->gradient, dout = out->gradient] {
    Tensor dy = take_own_gradient(tape, dout);
    if (!dy) return;
    with_float_type(dy.dtype(), [&]<class T>(T) { backward<T>(tape, in, heads, gains, scale, dy); });
    if (dx) add_gradient(tape, *dx, std::move(dy));
  });
  return out;
}

}  // namespace muonp::core::ops
