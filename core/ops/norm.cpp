#include "core/ops/norm.h"

#include "core/ops/common.h"

namespace muonp::core::ops {

namespace {

// One row is normalised as (x − mean)·scale; mean is 0 for the root-mean-square form.
struct Statistics {
  float* mean;
  float* scale;
};

// The tensor behind it: [2, rows] float32.
Statistics statistics_of(const Tensor& t) { return {t.data<float>(), t.data<float>() + t.dim(1)}; }

template <class T>
void forward(Queue& queue, const Tensor& x, const Tensor& gain, const Tensor& bias, bool centred,
             const Tensor& stats, const Tensor& y) {
  const std::int64_t cols = last_dim(x);
  const float per_column = 1.0f / static_cast<float>(cols);
  const T* in = x.data<T>();
  const T* g = gain.data<T>();
  const T* b = bias ? bias.data<T>() : nullptr;
  T* out = y.data<T>();
  const Statistics s = statistics_of(stats);
  for_each_row(queue, row_count(x), cols, [=](const Row& row) {
    const T* i = in + row.index * cols;
    T* o = out + row.index * cols;
    const float mean = centred ? row.sum([=](std::int64_t c) { return float(i[c]); }) * per_column : 0.0f;
    const float square = row.sum([=](std::int64_t c) { return (float(i[c]) - mean) * (float(i[c]) - mean); });
    const float scale = 1.0f / sqrtf(square * per_column + kNormEpsilon);
    s.mean[row.index] = mean;
    s.scale[row.index] = scale;
    if (b) {
      row.each([=](std::int64_t c) { o[c] = T((float(i[c]) - mean) * scale * float(g[c]) + float(b[c])); });
    } else {
      row.each([=](std::int64_t c) { o[c] = T((float(i[c]) - mean) * scale * float(g[c])); });
    }
  });
}

template <class T>
void gain_gradient(Queue& queue, const Tensor& x, const Tensor& stats, const Tensor& dy,
                   const GradientSlot& slot) {
  const std::int64_t cols = last_dim(x);
  const Statistics s = statistics_of(stats);
  const T* in = x.data<T>();
  const T* d = dy.data<T>();
  column_sums(queue, row_count(x), cols, slot.gradient.data<float>(), slot.add,
              [=](std::int64_t r, std::int64_t c) {
                return float(d[r * cols + c]) * (float(in[r * cols + c]) - s.mean[r]) * s.scale[r];
              });
}

template <class T>
void bias_gradient(Queue& queue, const Tensor& dy, const GradientSlot& slot) {
  const std::int64_t cols = last_dim(dy);
  const T* d = dy.data<T>();
  column_sums(queue, row_count(dy), cols, slot.gradient.data<float>(), slot.add,
              [=](std::int64_t r, std::int64_t c) { return float(d[r * cols + c]); });
}

// With n the normalised row and e = dy·gain: dx = scale·(e − mean(e) − n·mean(e·n)); the first mean is absent
// in the root-mean-square form. dx may be dy itself.
template <class T>
void input_gradient(Queue& queue, const Tensor& x, const Tensor& gain, bool centred, const Tensor& stats,
                    const Tensor& dy, const Tensor& dx, bool add) {
  const std::int64_t cols = last_dim(x);
  const float per_column = 1.0f / static_cast<float>(cols);
  const Statistics s = statistics_of(stats);
  const T* in = x.data<T>();
  const T* g = gain.data<T>();
  const T* d = dy.data<T>();
  T* out = dx.data<T>();
  for_each_row(queue, row_count(x), cols, [=](const Row& row) {
    const T* i = in + row.index * cols;
    const T* e = d + row.index * cols;
    T* o = out + row.index * cols;
    const float mean = s.mean[row.index], scale = s.scale[row.index];
    const float first =
        centred ? row.sum([=](std::int64_t c) { return float(e[c]) * float(g[c]); }) * per_column : 0.0f;
    const float second = row.sum([=](std::int64_t c) {
      return float(e[c]) * float(g[c]) * (float(i[c]) - mean) * scale;
    }) * per_column;
    row.each([=](std::int64_t c) {
      const float n = (float(i[c]) - mean) * scale;
      const float value = scale * (float(e[c]) * float(g[c]) - first - n * second);
      o[c] = T(add ? float(o[c]) + value : value);
    });
  });
}

Variable norm(Tape& tape, const Variable& x, Parameter& gain, Parameter* bias, bool centred) {
  const Tensor xv = x->value;
  MUONP_ASSERT(gain.shape == Shape{last_dim(xv)} && (!bias || bias->shape == gain.shape),
               "{} {} applied to {}", gain.name, to_string(gain.shape), to_string(xv.shape()));
  MUONP_ASSERT(gain.value.dtype() == xv.dtype(), "{} is {} and its input {}", gain.name,
               name_of(gain.value.dtype()), name_of(xv.dtype()));
  const Tensor y = tape.activation(xv.shape(), xv.dtype());
  const Tensor stats = tape.activation({2, row_count(xv)}, Dtype::float32);
  with_float_type(xv.dtype(), [&]<class T>(T) {
    forward<T>(tape.queue(), xv, gain.value, bias ? bias->value : Tensor(), centred, stats, y);
  });

  Variable out = tape.result(y, true);
  if (!tape.recording()) return out;
  std::vector<Parameter*> uses{&gain};
  if (bias) uses.push_back(bias);
  tape.record(std::move(uses),
              [&tape, xv, stats, &gain, bias, centred, dx = x->gradient, dout = out->gradient] {
                Tensor dy = take(dout);
                if (!dy) return;
                with_float_type(dy.dtype(), [&]<class T>(T) {
                  if (bias) bias_gradient<T>(tape.queue(), dy, tape.slot(*bias));
                  gain_gradient<T>(tape.queue(), xv, stats, dy, tape.slot(gain));
                  if (!dx) return;
                  if (!dx->tensor) {
                    input_gradient<T>(tape.queue(), xv, gain.value, centred, stats, dy, dy, false);
                    give(tape, *dx, std::move(dy));
                  } else {
                    input_gradient<T>(tape.queue(), xv, gain.value, centred, stats, dy, dx->tensor, true);
                  }
                });
              });
  return out;
}

}  // namespace

Variable layer_norm(Tape& tape, const Variable& x, Parameter& gain, Parameter* bias) {
  return norm(tape, x, gain, bias, true);
}

Variable rms_norm(Tape& tape, const Variable& x, Parameter& gain) {
  return norm(tape, x, gain, nullptr, false);
}

}  // namespace muonp::core::ops
