#include "core/ops/head_loss.h"

#include <cstring>

#include "core/blas.h"
#include "core/math.h"
#include "core/ops/common.h"
#include "core/ops/embedding.h"

namespace muonp::core::ops {

namespace {

// What both passes need; the tensors are handles.
struct Head {
  Tensor x, targets;
  Parameter* weight;
  std::int64_t rows, width, vocabulary, chunk;

  std::int64_t last_chunk() const { return (rows - 1) / chunk * chunk; }  // its first row
  std::int64_t chunk_size(std::int64_t first) const { return std::min(chunk, rows - first); }
  MatrixView x_rows(std::int64_t first) const {
    return MatrixView(x.raw(), rows, width, width, x.dtype()).block(first, 0, chunk_size(first), width);
  }
};

// buffer: float32 [chunk, vocabulary].
void compute_logits(Queue& queue, const Head& head, std::int64_t first, const Tensor& buffer) {
  gemm(queue, Op::none, Op::transpose, 1, head.x_rows(first), MatrixView(head.weight->value), 0,
       MatrixView(buffer).block(0, 0, head.chunk_size(first), head.vocabulary));
}

// normaliser[row] = log Σ exp(logits); losses[row] = normaliser − logit of the target, 0 where it is not
// counted.
void row_losses(Queue& queue, const Head& head, std::int64_t first, const Tensor& buffer, float* normaliser,
                float* losses) {
  const float* logits = buffer.data<float>();
  const std::int32_t* targets = head.targets.data<std::int32_t>();
  const std::int64_t vocabulary = head.vocabulary;
  for_each_row(queue, head.chunk_size(first), vocabulary, [=](const Row& row) {
    const float* l = logits + row.index * vocabulary;
    const std::int64_t at = first + row.index;
    const float highest = row.max([=](std::int64_t c) { return l[c]; });
    const float sum = row.sum([=](std::int64_t c) { return math::exp(l[c] - highest); });
    normaliser[at] = highest + math::log(sum);
    losses[at] = targets[at] < 0 ? 0.0f : normaliser[at] - l[targets[at]];
  });
}

// One row of logits becomes (softmax − target)·weight in the same memory, as T. By blocks through a local
// array: T may be narrower than the logits it overwrites, and then element c lands on logits that were read
// before.
template <class T>
void gradient_row(float* logits, std::int64_t vocabulary, float normaliser, std::int32_t target,
                  float weight) {
  constexpr std::int64_t kBlock = 512;
  char* to = reinterpret_cast<char*>(logits);
  const T at_target(target < 0 ? 0.0f : (math::exp(logits[target] - normaliser) - 1.0f) * weight);
  const float scale = target < 0 ? 0.0f : weight;
  T block[kBlock];
  T* b = block;
  for (std::int64_t begin = 0; begin < vocabulary; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, vocabulary - begin);
    const float* l = logits + begin;
    Row{0, count}.each([=](std::int64_t c) { b[c] = T(math::exp(l[c] - normaliser) * scale); });
    std::memcpy(to + begin * static_cast<std::int64_t>(sizeof(T)), block,
                static_cast<std::size_t>(count) * sizeof(T));
  }
  if (target >= 0) std::memcpy(to + target * static_cast<std::int64_t>(sizeof(T)), &at_target, sizeof(T));
}

template <class T>
void logit_gradients(Queue& queue, const Head& head, std::int64_t first, const Tensor& buffer,
                     const float* normaliser, float weight) {
  float* logits = buffer.data<float>();
  const std::int32_t* targets = head.targets.data<std::int32_t>();
  const std::int64_t vocabulary = head.vocabulary;
  for_each_row(queue, head.chunk_size(first), vocabulary, [=](const Row& row) {
    const std::int64_t at = first + row.index;
    gradient_row<T>(logits + row.index * vocabulary, vocabulary, normaliser[at], targets[at], weight);
  });
}

// The gradient's view of the logits' memory: rows stay where they are.
MatrixView gradient_view(const Head& head, std::int64_t first, const Tensor& buffer) {
  const std::int64_t stride = head.vocabulary * 4 / size_of(head.x.dtype());
  return {buffer.raw(), head.chunk_size(first), head.vocabulary, stride, head.x.dtype()};
}

// `kept`: logits of the last chunk. weight: d(loss) / number of counted targets.
void backward(Tape& tape, const Head& head, const Tensor& kept, const Tensor& normaliser, float weight,
              Gradient* dx) {
  Queue& queue = tape.queue();
  const GradientSlot to_x = dx ? tape.slot(*dx) : GradientSlot{};
  for (std::int64_t first = head.last_chunk(); first >= 0; first -= head.chunk) {
    if (first != head.last_chunk()) compute_logits(queue, head, first, kept);
    with_float_type(head.x.dtype(), [&]<class T>(T) {
      logit_gradients<T>(queue, head, first, kept, normaliser.data<float>(), weight);
    });
    const MatrixView dlogits = gradient_view(head, first, kept);
    const GradientSlot to_weight = tape.slot(*head.weight);
    gemm(queue, Op::transpose, Op::none, 1, dlogits, head.x_rows(first), to_weight.add ? 1.0f : 0.0f,
         MatrixView(to_weight.gradient));
    if (!dx) continue;
    const MatrixView rows = MatrixView(to_x.gradient.raw(), head.rows, head.width, head.width, head.x.dtype())
                                .block(first, 0, head.chunk_size(first), head.width);
    gemm(queue, Op::none, Op::none, 1, dlogits, MatrixView(head.weight->value), to_x.add ? 1.0f : 0.0f, rows);
  }
}

std::int64_t counted(const Tensor& targets) {
  const std::span<const std::int32_t> ids = targets.span<std::int32_t>();
  return std::count_if(ids.begin(), ids.end(), [](std::int32_t id) { return id >= 0; });
}

}  // namespace

Variable head_loss(Tape& tape, const Variable& x, Parameter& weight, const Tensor& targets,
                   std::int64_t chunk_rows) {
  const Tensor xv = x->value;
  const std::int64_t rows = row_count(xv);
  MUONP_ASSERT(
      weight.shape.size() == 2 && last_dim(xv) == weight.shape[1] && weight.value.dtype() == xv.dtype(),
      "{} {} {} applied to {} {}", weight.name, name_of(weight.value.dtype()), to_string(weight.shape),
      name_of(xv.dtype()), to_string(xv.shape()));
  MUONP_ASSERT(targets.dtype() == Dtype::int32 && targets.rank() >= 1 && targets.size() == rows && rows > 0,
               "targets {} {} for {} rows", name_of(targets.dtype()), to_string(targets.shape()), rows);
  MUONP_ASSERT(chunk_rows >= 0, "chunks of {} rows", chunk_rows);
  check_tokens(targets, weight.shape[0], true, "target");

  const std::int64_t chunk = chunk_rows == 0 ? rows : std::min(chunk_rows, rows);
  const Head head{xv, targets, &weight, rows, weight.shape[1], weight.shape[0], chunk};
  const Tensor buffer = tape.activation({chunk, head.vocabulary}, Dtype::float32);
  const Tensor normaliser = tape.activation({rows}, Dtype::float32),
               losses = tape.activation({rows}, Dtype::float32);
  for (std::int64_t first = 0; first < rows; first += chunk) {
    compute_logits(tape.queue(), head, first, buffer);
    row_losses(tape.queue(), head, first, buffer, normaliser.data<float>(), losses.data<float>());
  }
  const std::int64_t count = counted(targets);
  double sum = 0;
  for (const float loss : losses.span<float>()) sum += loss;
  const Tensor value = tape.activation({}, Dtype::float32);
  *value.data<float>() = count == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(count));

  Variable out = tape.result(value, true);
  if (!tape.recording()) return out;
  tape.record({&weight}, [&tape, head, buffer, normaliser, count, dx = x->gradient, dout = out->gradient] {
    const Tensor dloss = take(dout);
    if (!dloss) return;
    const float per_target = count == 0 ? 0.0f : *dloss.data<float>() / static_cast<float>(count);
    backward(tape, head, buffer, normaliser, per_target, dx.get());
  });
  return out;
}

}  // namespace muonp::core::ops
