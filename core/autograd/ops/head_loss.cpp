#include "core/autograd/ops/head_loss.h"

#include "core/autograd/ops/common.h"
#include "core/autograd/ops/embedding.h"
#include "core/base/math.h"
#include "core/device/blas.h"

namespace muonp::core::ops {

namespace {

// What both passes need; the tensors are handles.
struct Head {
  Tensor x, targets;  // both on the device
  Parameter* weight;
  std::int64_t rows, width, vocabulary, chunk;

  std::int64_t last_chunk() const { return (rows - 1) / chunk * chunk; }  // its first row
  std::int64_t chunk_size(std::int64_t first) const { return std::min(chunk, rows - first); }
  MatrixView x_rows(std::int64_t first) const {
    return MatrixView(x.raw(), rows, width, width, x.dtype()).block(first, 0, chunk_size(first), width);
  }
};

// f(first word, words) for parts of the vocabulary. cuBLAS is three to six times slower where the words do not fill whole 16
// bytes, so a GPU takes the last 9 to 15 apart; they come first, so that a sum over the parts is rounded with the large
// one. Never a single word: cuBLAS cannot launch its product with 65536 rows.
template <class F>
void for_each_part(Queue& queue, std::int64_t vocabulary, const F& f) {
  constexpr std::int64_t kWhole = 8;
  const bool whole = queue.kind() != DeviceKind::cuda || vocabulary % kWhole == 0 || vocabulary < 2 * kWhole;
  const std::int64_t most = whole ? vocabulary : (vocabulary / kWhole - 1) * kWhole;
  if (!whole) f(most, vocabulary - most);
  f(0, most);
}

// buffer: [chunk, logits_pitch(vocabulary)] in the logits' type, of which the first `vocabulary` columns are logits.
void compute_logits(Tape& tape, const Head& head, std::int64_t first, const Tensor& buffer) {
  const MatrixView weight(tape.weight(*head.weight)), logits(buffer);
  for_each_part(tape.queue(), head.vocabulary, [&](std::int64_t word, std::int64_t words) {
    gemm(tape.queue(), Op::none, Op::transpose, 1, head.x_rows(first), weight.block(word, 0, words, head.width), 0,
         logits.block(0, word, head.chunk_size(first), words));
  });
}

// Of each row: normaliser = log Σ exp(logits); loss = normaliser − logit of the target, 0 where it is not counted.
template <class L>
struct RowLosses {
  const L* logits;
  std::int64_t pitch;
  const std::int32_t* targets;
  float *normaliser, *losses;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const L* l = logits + row.index * pitch;
    const float total = row.log_sum_exp(l);
    const std::int32_t target = targets[row.index];
    normaliser[row.index] = total;
    losses[row.index] = target < 0 ? 0.0f : total - float(l[target]);
  }
};

// The mean of the counted rows' losses: a sum of one row, in double precision.
struct MeanLoss {
  const float* losses;
  float* mean;
  double count;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const float* l = losses;
    const double sum = row.sum([=](std::int64_t i) { return static_cast<double>(l[i]); });
    *mean = count == 0 ? 0.0f : static_cast<float>(sum / count);
  }
};

// One row of logits becomes (softmax − target)·weight in the same memory, as T.
template <class L, class T>
struct LogitGradients {
  L* logits;
  std::int64_t pitch;
  const std::int32_t* targets;
  const float *normaliser, *dloss;
  float count;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    L* l = logits + row.index * pitch;
    const float total = normaliser[row.index], weight = *dloss / count;
    const std::int32_t target = targets[row.index];
    const float scale = target < 0 ? 0.0f : weight;
    row.template narrow<T>(l, [=](std::int64_t c, L logit) {
      const float softmax = math::exp(float(logit) - total);
      return T((c == target ? softmax - 1.0f : softmax) * scale);
    });
  }
};

// The gradient's view of the logits' memory: rows stay where they are.
MatrixView gradient_view(const Head& head, std::int64_t first, const Tensor& buffer) {
  const std::int64_t stride = buffer.dim(1) * size_of(buffer.dtype()) / size_of(head.x.dtype());
  return {buffer.raw(), head.chunk_size(first), head.vocabulary, stride, head.x.dtype()};
}

void weight_gradient(Tape& tape, const Head& head, std::int64_t first, const MatrixView& dlogits) {
  const GradientSlot to_weight = tape.slot(*head.weight);
  const MatrixView dweight(to_weight.gradient);
  for_each_part(tape.queue(), head.vocabulary, [&](std::int64_t word, std::int64_t words) {
    gemm(tape.queue(), Op::transpose, Op::none, 1, dlogits.block(0, word, dlogits.rows, words), head.x_rows(first),
         to_weight.add ? 1.0f : 0.0f, dweight.block(word, 0, words, head.width));
  });
}

// `kept`: logits of the last chunk. dloss: a float32 scalar; `count` targets are counted.
void backward(Tape& tape, const Head& head, const Tensor& kept, const Tensor& normaliser, const Tensor& dloss,
              std::int64_t count, Gradient* dx) {
  Queue& queue = tape.queue();
  const GradientSlot to_x = dx ? tape.slot(*dx) : GradientSlot{};
  for (std::int64_t first = head.last_chunk(); first >= 0; first -= head.chunk) {
    if (first != head.last_chunk()) compute_logits(tape, head, first, kept);
    const auto to_gradients = [&]<class L, class T>(L, T) {
      for_each_row(queue, head.chunk_size(first), head.vocabulary,
                   LogitGradients<L, T>{kept.data<L>(), kept.dim(1), head.targets.data<std::int32_t>() + first,
                                        normaliser.data<float>() + first, dloss.data<float>(),
                                        static_cast<float>(std::max<std::int64_t>(1, count))});
    };
    with_float_type(head.x.dtype(), [&]<class T>(T) {
      if (kept.dtype() == Dtype::float32)
        to_gradients(float(), T());
      else
        to_gradients(T(), T());
    });
    const MatrixView dlogits = gradient_view(head, first, kept);
    if (head.weight->trained) weight_gradient(tape, head, first, dlogits);
    if (!dx) continue;
    const MatrixView weight(tape.weight(*head.weight));
    const MatrixView rows = MatrixView(to_x.gradient.raw(), head.rows, head.width, head.width, head.x.dtype())
                                .block(first, 0, head.chunk_size(first), head.width);
    bool add = to_x.add;
    for_each_part(queue, head.vocabulary, [&](std::int64_t word, std::int64_t words) {
      gemm(queue, Op::none, Op::none, 1, dlogits.block(0, word, dlogits.rows, words),
           weight.block(word, 0, words, head.width), add ? 1.0f : 0.0f, rows);
      add = true;
    });
  }
}

std::int64_t counted(const Tensor& targets) {
  const std::span<const std::int32_t> ids = targets.span<std::int32_t>();
  return std::count_if(ids.begin(), ids.end(), [](std::int32_t id) { return id >= 0; });
}

// Checks the arguments, and brings the targets to the device.
Head make_head(Tape& tape, const Tensor& x, Parameter& weight, const Tensor& targets, std::int64_t chunk_rows) {
  const std::int64_t rows = row_count(x);
  tape.acquire({&weight});
  MUONP_ASSERT(weight.shape.size() == 2 && last_dim(x) == weight.shape[1] && weight.value.dtype() == x.dtype(),
               "{} {} {} applied to {} {}", weight.name, name_of(weight.value.dtype()), to_string(weight.shape),
               name_of(x.dtype()), to_string(x.shape()));
  MUONP_ASSERT(targets.dtype() == Dtype::int32 && targets.rank() >= 1 && targets.size() == rows && rows > 0,
               "targets {} {} for {} rows", name_of(targets.dtype()), to_string(targets.shape()), rows);
  MUONP_ASSERT(chunk_rows >= 0, "chunks of {} rows", chunk_rows);
  check_tokens(targets, weight.shape[0], true, "target");
  const std::int64_t chunk = chunk_rows == 0 ? rows : std::min(chunk_rows, rows);
  return {x, on_device(tape, targets), &weight, rows, weight.shape[1], weight.shape[0], chunk};
}

// What the forward pass makes of all rows; `buffer` holds the last chunk's logits.
struct Rows {
  Tensor buffer, normaliser, losses;
};
Rows compute_rows(Tape& tape, const Head& head, Dtype logits) {
  const Rows all{tape.activation({head.chunk, logits_pitch(head.vocabulary)}, logits),
                 tape.activation({head.rows}, Dtype::float32), tape.activation({head.rows}, Dtype::float32)};
  for (std::int64_t first = 0; first < head.rows; first += head.chunk) {
    compute_logits(tape, head, first, all.buffer);
    with_float_type(logits, [&]<class L>(L) {
      for_each_row(tape.queue(), head.chunk_size(first), head.vocabulary,
                   RowLosses<L>{all.buffer.data<L>(), all.buffer.dim(1), head.targets.data<std::int32_t>() + first,
                                all.normaliser.data<float>() + first, all.losses.data<float>() + first});
    });
  }
  return all;
}

}  // namespace

Tensor head_losses(Tape& tape, const Tensor& x, Parameter& weight, const Tensor& targets, std::int64_t chunk_rows) {
  return compute_rows(tape, make_head(tape, x, weight, targets, chunk_rows), Dtype::float32).losses;
}

Variable head_loss(Tape& tape, const Variable& x, Parameter& weight, const Tensor& targets, std::int64_t chunk_rows,
                   Dtype logits) {
  MUONP_ASSERT(logits == Dtype::float32 || logits == x->value.dtype(), "{} logits of {} rows", name_of(logits),
               name_of(x->value.dtype()));
  const Head head = make_head(tape, x->value, weight, targets, chunk_rows);
  const Rows rows = compute_rows(tape, head, logits);
  const std::int64_t count = counted(targets);
  const Tensor value = tape.activation({}, Dtype::float32);
  for_each_row(tape.queue(), 1, head.rows,
               MeanLoss{rows.losses.data<float>(), value.data<float>(), static_cast<double>(count)});

  Variable out = tape.result(value, true);
  if (!tape.recording()) return out;
  tape.record({&weight}, [&tape, head, buffer = rows.buffer, normaliser = rows.normaliser, count, dx = x->gradient,
                          dout = out->gradient] {
    const Tensor dloss = take_gradient(dout);
    if (!dloss) return;
    backward(tape, head, buffer, normaliser, dloss, count, dx.get());
  });
  return out;
}

}  // namespace muonp::core::ops
