#include "core/autograd/ops/embedding.h"

#include <limits>
#include <numeric>

#include "core/autograd/ops/common.h"
#include "core/base/index.h"

namespace muonp::core::ops {

void check_tokens(const Tensor& tokens, std::int64_t vocabulary, bool allow_ignored, const char* what) {
  const std::int32_t* ids = tokens.data<std::int32_t>();
  const std::int32_t lowest = allow_ignored ? -1 : 0;
  for (std::int64_t i = 0; i < tokens.size(); ++i)
    if (ids[i] < lowest || ids[i] >= vocabulary)
      fail(
          "{} {} at sequence {}, position {} is outside the model's vocabulary of {} (valid: 0 to {}{}); was the data made "
          "with another tokenizer?",
          what, ids[i], i / tokens.dim(-1), i % tokens.dim(-1), vocabulary, vocabulary - 1,
          allow_ignored ? ", or -1 for not counted" : "");
}

namespace {

template <class T>
struct Lookup {
  const std::int32_t *ids, *places;  // no places: null
  const T *table, *positions;        // no positions: null
  T* out;
  std::int64_t time;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T* from = table + ids[row.index] * row.cols;
    const Written<T> to{out + row.index * row.cols};
    if (positions) {
      const T* place = positions + (places ? places[row.index] : row.index % time) * row.cols;
      row.over([](T token, T at, T& sum) { sum = T(float(token) + float(at)); }, from, place, to);
    } else {
      row.over([](T token, T& copy) { copy = token; }, from, to);
    }
  }
};

// How the rows of dy are added to the table's gradient. Text has tokens that come thousands of times in a batch, so equal
// ids are added in chunks, and the chunks' sums in a second pass. The order is that of the batch in both.
struct TokenSums {
  static constexpr std::int32_t kChunk = 32;
  std::vector<std::int32_t> order;   // indices of the batch's tokens sorted by id, equal ids in the order of the batch
  std::vector<std::int32_t> starts;  // of the chunks, in `order`; then the number of tokens
  std::vector<std::int32_t> ids;  // of the chunks: row r ≥ 0 of the gradient, or −1 − r for row r of the chunks' sums
  std::vector<std::int32_t> sum_starts, sum_ids;  // of ids with several chunks: where their sums begin, and row

  std::int32_t sums() const { return sum_starts.back(); }
};

TokenSums plan_sums(const Tensor& tokens) {
  const std::int32_t* ids = tokens.data<std::int32_t>();
  MUONP_ASSERT(tokens.size() < std::numeric_limits<std::int32_t>::max(), "{} tokens", tokens.size());
  const auto count = static_cast<std::int32_t>(tokens.size());
  TokenSums plan;
  plan.order.resize(static_cast<std::size_t>(count));
  std::iota(plan.order.begin(), plan.order.end(), 0);
  std::stable_sort(plan.order.begin(), plan.order.end(), [=](std::int32_t a, std::int32_t b) { return ids[a] < ids[b]; });
  plan.sum_starts.push_back(0);
  for (std::int32_t begin = 0, end = 0; begin < count; begin = end) {
    const std::int32_t id = ids[plan.order[at(begin)]];
    while (end < count && ids[plan.order[at(end)]] == id) ++end;
    const bool alone = end - begin <= TokenSums::kChunk;
    std::int32_t sum = plan.sums();
    for (std::int32_t start = begin; start < end; start += TokenSums::kChunk) {
      plan.starts.push_back(start);
      plan.ids.push_back(alone ? id : -1 - sum++);
    }
    if (alone) continue;
    plan.sum_starts.push_back(sum);
    plan.sum_ids.push_back(id);
  }
  plan.starts.push_back(count);
  return plan;
}

Tensor on_device(Tape& tape, std::vector<std::int32_t>& host) {
  return ops::on_device(tape, Tensor::borrow(host.data(), {std::ssize(host)}, Dtype::int32));
}

// A row for each chunk: into `gradient` where an id has no other, else into `sums`.
template <class T>
struct AddChunk {
  const std::int32_t *order, *starts, *ids;
  const T* dy;
  float *gradient, *sums;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int32_t id = ids[row.index], begin = starts[row.index], end = starts[row.index + 1];
    const std::int64_t cols = row.cols;
    const std::int32_t* tokens = order + begin;
    const T* from = dy;
    row.add_rows(id < 0 ? sums + (-1 - id) * cols : gradient + id * cols, id >= 0, end - begin,
                 [=](std::int64_t i) { return from + tokens[i] * cols; });
  }
};

// A row for each id with several chunks.
struct AddChunkSums {
  const std::int32_t *starts, *ids;
  const float* sums;
  float* gradient;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int32_t begin = starts[row.index], end = starts[row.index + 1];
    const std::int64_t cols = row.cols;
    const float* from = sums + begin * cols;
    row.add_rows(gradient + ids[row.index] * cols, true, end - begin, [=](std::int64_t i) { return from + i * cols; });
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
    const std::int64_t cols = row.cols, stride = time * cols;
    const T* from = dy + row.index * cols;
    row.add_rows(gradient + row.index * cols, add, row.index < time ? batch : 0,
                 [=](std::int64_t b) { return from + b * stride; });
  }
};

template <class T>
void table_gradient(Tape& tape, const Tensor& tokens, const Tensor& dy, const GradientSlot& slot) {
  if (!slot.add) zero(tape.queue(), slot.gradient);
  TokenSums plan = plan_sums(tokens);
  const Tensor order = on_device(tape, plan.order), starts = on_device(tape, plan.starts), ids = on_device(tape, plan.ids);
  const std::int64_t width = last_dim(dy);
  const Tensor sums = tape.activation({plan.sums(), width}, Dtype::float32);
  float* gradient = slot.gradient.data<float>();
  for_each_row(tape.queue(), ids.size(), width,
               AddChunk<T>{order.data<std::int32_t>(), starts.data<std::int32_t>(), ids.data<std::int32_t>(), dy.data<T>(),
                           gradient, sums.data<float>()});
  if (plan.sum_ids.empty()) return;
  const Tensor sum_starts = on_device(tape, plan.sum_starts), sum_ids = on_device(tape, plan.sum_ids);
  for_each_row(tape.queue(), sum_ids.size(), width,
               AddChunkSums{sum_starts.data<std::int32_t>(), sum_ids.data<std::int32_t>(), sums.data<float>(), gradient});
}

}  // namespace

namespace {

void check_places(const Tensor& tokens, const Parameter& table, const Parameter& positions, const Tensor& places) {
  MUONP_ASSERT(positions.shape.size() == 2 && positions.shape[1] == table.shape[1] &&
                   positions.value.dtype() == table.value.dtype() && (places || positions.shape[0] >= tokens.dim(1)),
               "{} positions from {} {}", tokens.dim(1), positions.name, to_string(positions.shape));
  if (!places) return;
  MUONP_ASSERT(places.dtype() == Dtype::int32 && places.shape() == tokens.shape(), "places {} of tokens {}",
               to_string(places.shape()), to_string(tokens.shape()));
  for (const std::int32_t place : places.span<std::int32_t>())
    MUONP_ASSERT(place >= 0 && place < positions.shape[0], "place {} of {} {}", place, positions.name,
                 to_string(positions.shape));
}

template <class T>
void positions_gradient(Tape& tape, const Tensor& places, const Tensor& dy, const GradientSlot& slot) {
  if (places) return table_gradient<T>(tape, places, dy, slot);
  for_each_row(tape.queue(), slot.gradient.dim(0), last_dim(dy),
               AddByPosition<T>{dy.data<T>(), slot.gradient.data<float>(), dy.dim(0), dy.dim(1), slot.add});
}

}  // namespace

Variable embedding(Tape& tape, const Tensor& tokens, Parameter& table, Parameter* positions, const Tensor& places) {
  MUONP_ASSERT(tokens.dtype() == Dtype::int32 && tokens.rank() == 2, "tokens are {} {}, not int32 [batch, time]",
               name_of(tokens.dtype()), to_string(tokens.shape()));
  MUONP_ASSERT(table.shape.size() == 2, "{} {}", table.name, to_string(table.shape));
  const std::int64_t batch = tokens.dim(0), time = tokens.dim(1), width = table.shape[1];
  tape.acquire({&table, positions});
  if (positions) check_places(tokens, table, *positions, places);
  check_tokens(tokens, table.shape[0], false, "token");
  const Tensor y = tape.activation({batch, time, width}, table.value.dtype());
  const Tensor ids = ops::on_device(tape, tokens), rows = places ? ops::on_device(tape, places) : Tensor();
  with_float_type(y.dtype(), [&]<class T>(T) {
    for_each_row(tape.queue(), tokens.size(), width,
                 Lookup<T>{ids.data<std::int32_t>(), rows ? rows.data<std::int32_t>() : nullptr, table.value.data<T>(),
                           positions ? positions->value.data<T>() : nullptr, y.data<T>(), time});
  });

  Variable out = tape.result(y, true);
  if (!tape.recording()) return out;
  std::vector<Parameter*> uses{&table};
  if (positions) uses.push_back(positions);
  tape.record(std::move(uses), [&tape, tokens, places, &table, positions, dout = out->gradient] {
    const Tensor dy = take_gradient(dout);
    if (!dy) return;
    with_float_type(dy.dtype(), [&]<class T>(T) {
      if (positions && positions->trained) positions_gradient<T>(tape, places, dy, tape.slot(*positions));
      if (table.trained) table_gradient<T>(tape, tokens, dy, tape.slot(table));
    });
  });
  return out;
}

}  // namespace muonp::core::ops
