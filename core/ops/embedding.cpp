#include "core/ops/embedding.h"

#include <limits>
#include <numeric>

#include "core/ops/common.h"

namespace muonp::core::ops {

void check_tokens(const Tensor& tokens, std::int64_t vocabulary, bool allow_ignored, const char* what) {
  const std::int32_t* ids = tokens.data<std::int32_t>();
  const std::int32_t lowest = allow_ignored ? -1 : 0;
  for (std::int64_t i = 0; i < tokens.size(); ++i)
    if (ids[i] < lowest || ids[i] >= vocabulary)
      fail(
          "{} {} at sequence {}, position {} is outside the model's vocabulary of {} (valid: 0 to {}{}); was "
          "the data "
          "made with another tokenizer?",
          what, ids[i], i / tokens.dim(-1), i % tokens.dim(-1), vocabulary, vocabulary - 1,
          allow_ignored ? ", or -1 for not counted" : "");
}

namespace {

template <class T>
struct Lookup {
  const std::int32_t* ids;
  const T *table, *positions;  // no positions: null
  T* out;
  std::int64_t time;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T* from = table + ids[row.index] * row.cols;
    T* to = out + row.index * row.cols;
    if (positions) {
      const T* place = positions + row.index % time * row.cols;
      row.each([=](std::int64_t c) { to[c] = T(float(from[c]) + float(place[c])); });
    } else {
      row.each([=](std::int64_t c) { to[c] = from[c]; });
    }
  }
};

// Indices of the batch's tokens sorted by id, equal ids in the order of the batch; starts[k] is where the
// k-th distinct id, ids[k], begins.
struct Grouped {
  std::vector<std::int32_t> order, starts, ids;
};

Grouped group_by_id(const Tensor& tokens) {
  const std::int32_t* ids = tokens.data<std::int32_t>();
  MUONP_ASSERT(tokens.size() < std::numeric_limits<std::int32_t>::max(), "{} tokens", tokens.size());
  Grouped g;
  g.order.resize(static_cast<std::size_t>(tokens.size()));
  std::iota(g.order.begin(), g.order.end(), 0);
  std::stable_sort(g.order.begin(), g.order.end(),
                   [=](std::int32_t a, std::int32_t b) { return ids[a] < ids[b]; });
  for (std::size_t i = 0; i < g.order.size(); ++i)
    if (i == 0 || ids[g.order[i]] != ids[g.order[i - 1]]) {
      g.starts.push_back(static_cast<std::int32_t>(i));
      g.ids.push_back(ids[g.order[i]]);
    }
  g.starts.push_back(static_cast<std::int32_t>(tokens.size()));
  return g;
}

Tensor on_device(Tape& tape, std::vector<std::int32_t>& host) {
  return ops::on_device(
      tape, Tensor::borrow(host.data(), {static_cast<std::int64_t>(host.size())}, Dtype::int32));
}

// A row of `gradient` for each distinct id.
template <class T>
struct AddByToken {
  const std::int32_t *order, *starts, *ids;
  const T* dy;
  float* gradient;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    float* to = gradient + ids[row.index] * row.cols;
    for (std::int32_t i = starts[row.index]; i < starts[row.index + 1]; ++i) {
      const T* from = dy + order[i] * row.cols;
      row.each([=](std::int64_t c) { to[c] += float(from[c]); });
    }
  }
};

// A row of `gradient` for each position; rows from `time` on were not used.
template <class T>
struct AddByPosition {
  const T* dy;
  float* gradient;
  std::int64_t batch, time;
  bool add;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    float* to = gradient + row.index * row.cols;
    if (!add) row.each([=](std::int64_t c) { to[c] = 0; });
    if (row.index >= time) return;
    for (std::int64_t b = 0; b < batch; ++b) {
      const T* from = dy + (b * time + row.index) * row.cols;
      row.each([=](std::int64_t c) { to[c] += float(from[c]); });
    }
  }
};

template <class T>
void table_gradient(Tape& tape, const Tensor& tokens, const Tensor& dy, const GradientSlot& slot) {
  if (!slot.add) zero(tape.queue(), slot.gradient);
  Grouped g = group_by_id(tokens);
  const Tensor order = on_device(tape, g.order), starts = on_device(tape, g.starts), ids = on_device(tape, g.ids);
  for_each_row(tape.queue(), ids.size(), last_dim(dy),
               AddByToken<T>{order.data<std::int32_t>(), starts.data<std::int32_t>(),
                             ids.data<std::int32_t>(), dy.data<T>(), slot.gradient.data<float>()});
}

}  // namespace

Variable embedding(Tape& tape, const Tensor& tokens, Parameter& table, Parameter* positions) {
  MUONP_ASSERT(tokens.dtype() == Dtype::int32 && tokens.rank() == 2,
               "tokens are {} {}, not int32 [batch, time]", name_of(tokens.dtype()),
               to_string(tokens.shape()));
  MUONP_ASSERT(table.shape.size() == 2, "{} {}", table.name, to_string(table.shape));
  const std::int64_t batch = tokens.dim(0), time = tokens.dim(1), width = table.shape[1];
  tape.acquire({&table, positions});
  MUONP_ASSERT(
      !positions || (positions->shape.size() == 2 && positions->shape[0] >= time &&
                     positions->shape[1] == width && positions->value.dtype() == table.value.dtype()),
      "{} positions from {} {}", time, positions->name, to_string(positions->shape));
  check_tokens(tokens, table.shape[0], false, "token");
  const Tensor y = tape.activation({batch, time, width}, table.value.dtype());
  const Tensor ids = ops::on_device(tape, tokens);
  with_float_type(y.dtype(), [&]<class T>(T) {
    const T* places = positions ? positions->value.data<T>() : nullptr;
    for_each_row(
        tape.queue(), tokens.size(), width,
        Lookup<T>{ids.data<std::int32_t>(), table.value.data<T>(), places, y.data<T>(), time});
  });

  Variable out = tape.result(y, true);
  if (!tape.recording()) return out;
  std::vector<Parameter*> uses{&table};
  if (positions) uses.push_back(positions);
  tape.record(std::move(uses), [&tape, tokens, &table, positions, batch, time, dout = out->gradient] {
    const Tensor dy = take(dout);
    if (!dy) return;
    with_float_type(dy.dtype(), [&]<class T>(T) {
      if (positions) {
        const GradientSlot slot = tape.slot(*positions);
        for_each_row(tape.queue(), slot.gradient.dim(0), last_dim(dy),
                     AddByPosition<T>{dy.data<T>(), slot.gradient.data<float>(), batch, time, slot.add});
      }
      table_gradient<T>(tape, tokens, dy, tape.slot(table));
    });
  });
  return out;
}

}  // namespace muonp::core::ops
