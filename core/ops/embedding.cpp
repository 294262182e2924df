#include "core/ops/embedding.h"

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
void forward(Queue& queue, const Tensor& tokens, const Tensor& table, const Tensor& positions,
             const Tensor& out) {
  const std::int64_t width = table.dim(1), time = tokens.dim(1);
  const std::int32_t* ids = tokens.data<std::int32_t>();
  const T* rows = table.data<T>();
  const T* places = positions ? positions.data<T>() : nullptr;
  T* o = out.data<T>();
  for_each_row(queue, tokens.size(), width, [=](const Row& row) {
    const T* from = rows + ids[row.index] * width;
    T* to = o + row.index * width;
    if (places) {
      const T* place = places + row.index % time * width;
      row.each([=](std::int64_t c) { to[c] = T(float(from[c]) + float(place[c])); });
    } else {
      row.each([=](std::int64_t c) { to[c] = from[c]; });
    }
  });
}

// Indices of the batch's tokens sorted by id, equal ids in the order of the batch; starts[k] is where the
// k-th distinct id begins.
struct Grouped {
  std::vector<std::int64_t> order, starts;
};

Grouped group_by_id(const Tensor& tokens) {
  const std::int32_t* ids = tokens.data<std::int32_t>();
  Grouped g;
  g.order.resize(static_cast<std::size_t>(tokens.size()));
  std::iota(g.order.begin(), g.order.end(), std::int64_t{0});
  std::stable_sort(g.order.begin(), g.order.end(),
                   [=](std::int64_t a, std::int64_t b) { return ids[a] < ids[b]; });
  for (std::size_t i = 0; i < g.order.size(); ++i)
    if (i == 0 || ids[g.order[i]] != ids[g.order[i - 1]]) g.starts.push_back(static_cast<std::int64_t>(i));
  g.starts.push_back(tokens.size());
  return g;
}

template <class T>
void table_gradient(Queue& queue, const Tensor& tokens, const Tensor& dy, const GradientSlot& slot) {
  if (!slot.add) zero(queue, slot.gradient);
  const Grouped grouped = group_by_id(tokens);
  const std::int64_t* order = grouped.order.data();
  const std::int64_t* starts = grouped.starts.data();
  const std::int32_t* ids = tokens.data<std::int32_t>();
  const T* d = dy.data<T>();
  float* gradient = slot.gradient.data<float>();
  const std::int64_t width = last_dim(dy);
  for_each_row(queue, static_cast<std::int64_t>(grouped.starts.size()) - 1, width, [=](const Row& row) {
    float* to = gradient + ids[order[starts[row.index]]] * width;
    for (std::int64_t i = starts[row.index]; i < starts[row.index + 1]; ++i) {
      const T* from = d + order[i] * width;
      row.each([=](std::int64_t c) { to[c] += float(from[c]); });
    }
  });
}

template <class T>
void position_gradient(Queue& queue, std::int64_t batch, std::int64_t time, const Tensor& dy,
                       const GradientSlot& slot) {
  const std::int64_t width = last_dim(dy);
  const bool add = slot.add;
  const T* d = dy.data<T>();
  float* gradient = slot.gradient.data<float>();
  for_each_row(queue, slot.gradient.dim(0), width, [=](const Row& row) {
    float* to = gradient + row.index * width;
    if (!add) row.each([=](std::int64_t c) { to[c] = 0; });
    if (row.index >= time) return;
    for (std::int64_t b = 0; b < batch; ++b) {
      const T* from = d + (b * time + row.index) * width;
      row.each([=](std::int64_t c) { to[c] += float(from[c]); });
    }
  });
}

}  // namespace

Variable embedding(Tape& tape, const Tensor& tokens, Parameter& table, Parameter* positions) {
  MUONP_ASSERT(tokens.dtype() == Dtype::int32 && tokens.rank() == 2,
               "tokens are {} {}, not int32 [batch, time]", name_of(tokens.dtype()),
               to_string(tokens.shape()));
  MUONP_ASSERT(table.shape.size() == 2, "{} {}", table.name, to_string(table.shape));
  const std::int64_t batch = tokens.dim(0), time = tokens.dim(1), width = table.shape[1];
  MUONP_ASSERT(
      !positions || (positions->shape.size() == 2 && positions->shape[0] >= time &&
                     positions->shape[1] == width && positions->value.dtype() == table.value.dtype()),
      "{} positions from {} {}", time, positions->name, to_string(positions->shape));
  check_tokens(tokens, table.shape[0], false, "token");
  const Tensor y = tape.activation({batch, time, width}, table.value.dtype());
  with_float_type(y.dtype(), [&]<class T>(T) {
    forward<T>(tape.queue(), tokens, table.value, positions ? positions->value : Tensor(), y);
  });

  Variable out = tape.result(y, true);
  if (!tape.recording()) return out;
  std::vector<Parameter*> uses{&table};
  if (positions) uses.push_back(positions);
  tape.record(std::move(uses), [&tape, tokens, &table, positions, batch, time, dout = out->gradient] {
    const Tensor dy = take(dout);
    if (!dy) return;
    with_float_type(dy.dtype(), [&]<class T>(T) {
      if (positions) position_gradient<T>(tape.queue(), batch, time, dy, tape.slot(*positions));
      table_gradient<T>(tape.queue(), tokens, dy, tape.slot(table));
    });
  });
  return out;
}

}  // namespace muonp::core::ops
