#include "core/autograd/ops/norm.h"

#include "core/autograd/ops/common.h"

namespace muonp::core::ops {

namespace {

// One row is normalised as n = (x − mean)·scale; mean is 0 for the root-mean-square form.
struct Statistics {
  float* mean;
  float* scale;
};

// The tensor behind it: [2, rows] float32.
Statistics statistics_of(const Tensor& t) { return {t.data<float>(), t.data<float>() + t.dim(1)}; }

template <class T>
struct Normalise {
  const T *x, *gain, *bias;  // no bias: null
  T* y;
  Statistics stats;
  bool centred;
  float epsilon;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t cols = row.cols;
    const float per_column = 1.0f / static_cast<float>(cols);
    const T *i = x + row.index * cols, *g = gain, *b = bias;
    T* o = y + row.index * cols;
    const float mean = centred ? row.sum([](T value) { return float(value); }, i) * per_column : 0.0f;
    const float square = row.sum([=](T value) { return (float(value) - mean) * (float(value) - mean); }, i);
    const float scale = 1.0f / sqrtf(square * per_column + epsilon);
    stats.mean[row.index] = mean;
    stats.scale[row.index] = scale;
    if (b) {
      row.over([=](T value, T by, T more, T& out) { out = T((float(value) - mean) * scale * float(by) + float(more)); }, i,
               g, b, Written<T>{o});
    } else {
      row.over([=](T value, T by, T& out) { out = T((float(value) - mean) * scale * float(by)); }, i, g, Written<T>{o});
    }
  }
};

// Σ dy·n, and with a bias Σ dy.
template <class T, bool biased>
struct NormGradient {
  static constexpr int kSums = biased ? 2 : 1;
  const T *x, *dy;
  Statistics stats;
  std::int64_t cols;

  MUONP_COLUMN_KERNEL auto row(std::int64_t r, const Use& use) const {
    const float mean = stats.mean[r], scale = stats.scale[r];
    const T *i = x + r * cols, *e = dy + r * cols;
    if constexpr (biased)
      return use(
          [=](T value, T slope, float& gain, float& bias) {
            gain += float(slope) * (float(value) - mean) * scale;
            bias += float(slope);
          },
          i, e);
    else
      return use([=](T value, T slope, float& gain) { gain += float(slope) * (float(value) - mean) * scale; }, i, e);
  }
};

template <class T>
void parameter_gradients(Tape& tape, const Tensor& x, const Tensor& dy, Parameter& gain, Parameter* bias,
                         const Tensor& stats) {
  const auto target = [&](Parameter& p) {
    const GradientSlot slot = tape.slot(p);
    return ColumnTarget{slot.gradient.data<float>(), slot.add};
  };
  const std::int64_t rows = row_count(x), cols = last_dim(x);
  if (!gain.trained) return;
  if (bias) {
    const ColumnTarget to_bias = target(*bias);  // in the order in which gradients have always been finished
    column_sums(tape.queue(), rows, cols, {{target(gain), to_bias}},
                NormGradient<T, true>{x.data<T>(), dy.data<T>(), statistics_of(stats), cols});
  } else {
    column_sums(tape.queue(), rows, cols, {{target(gain)}},
                NormGradient<T, false>{x.data<T>(), dy.data<T>(), statistics_of(stats), cols});
  }
}

// With e = dy·gain: dx = scale·(e − mean(e) − n·mean(e·n)); the first mean is absent in the root-mean-square form. dx
// may be dy itself.
template <class T>
struct InputGradient {
  const T *x, *gain, *dy;
  T* dx;
  Statistics stats;
  bool centred, add;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t cols = row.cols;
    const float per_column = 1.0f / static_cast<float>(cols);
    const T *i = x + row.index * cols, *e = dy + row.index * cols, *g = gain;
    T* o = dx + row.index * cols;
    const float mean = stats.mean[row.index], scale = stats.scale[row.index];
    const float first = centred ? row.sum([](T slope, T by) { return float(slope) * float(by); }, e, g) * per_column : 0.0f;
    const float second =
        row.sum([=](T slope, T by, T value) { return float(slope) * float(by) * (float(value) - mean) * scale; }, e, g, i) *
        per_column;
    const auto input_slope = [=](T slope, T by, T value) {
      const float n = (float(value) - mean) * scale;
      return scale * (float(slope) * float(by) - first - n * second);
    };
    if (add) {
      row.over([=](T slope, T by, T value, T& out) { out = T(float(out) + input_slope(slope, by, value)); }, e, g, i, o);
    } else {
      row.over([=](T slope, T by, T value, T& out) { out = T(input_slope(slope, by, value)); }, e, g, i, Written<T>{o});
    }
  }
};

template <class T>
void backward(Tape& tape, const Tensor& x, Parameter& gain, Parameter* bias, bool centred, const Tensor& stats, Tensor dy,
              Gradient* dx) {
  Queue& queue = tape.queue();
  const std::int64_t rows = row_count(x), cols = last_dim(x);
  const T* in = x.data<T>();
  const T* d = dy.data<T>();
  parameter_gradients<T>(tape, x, dy, gain, bias, stats);
  if (!dx) return;
  const bool add = static_cast<bool>(dx->tensor);
  T* to = add ? tape.slot(*dx).gradient.data<T>() : dy.data<T>();
  for_each_row(queue, rows, cols,
               InputGradient<T>{in, tape.weight(gain).data<T>(), d, to, statistics_of(stats), centred, add});
  if (!add) add_gradient(tape, *dx, std::move(dy));
}

Variable norm(Tape& tape, const Variable& x, Parameter& gain, Parameter* bias, bool centred, float epsilon) {
  const Tensor xv = x->value;
  tape.acquire({&gain, bias});
  MUONP_ASSERT(gain.shape == Shape{last_dim(xv)} && (!bias || bias->shape == gain.shape), "{} {} applied to {}", gain.name,
               to_string(gain.shape), to_string(xv.shape()));
  MUONP_ASSERT(!bias || bias->trained == gain.trained, "{} and {}: one of them is frozen", gain.name, bias->name);
  MUONP_ASSERT(gain.value.dtype() == xv.dtype(), "{} is {} and its input {}", gain.name, name_of(gain.value.dtype()),
               name_of(xv.dtype()));
  const Tensor y = tape.activation(xv.shape(), xv.dtype());
  const Tensor stats = tape.activation({2, row_count(xv)}, Dtype::float32);
  with_float_type(xv.dtype(), [&]<class T>(T) {
    const T* b = bias ? bias->value.data<T>() : nullptr;
    for_each_row(tape.queue(), row_count(xv), last_dim(xv),
                 Normalise<T>{xv.data<T>(), gain.value.data<T>(), b, y.data<T>(), statistics_of(stats), centred, epsilon});
  });

  Variable out = tape.result(y, true);
  if (!tape.recording()) return out;
  std::vector<Parameter*> uses{&gain};
  if (bias) uses.push_back(bias);
  tape.record(std::move(uses), [&tape, xv, stats, &gain, bias, centred, dx = x->gradient, dout = out->gradient] {
    const bool in_place = dx && !dx->tensor;
    Tensor dy = in_place ? take_own_gradient(tape, dout) : take_gradient(dout);
    if (!dy) return;
    with_float_type(dy.dtype(),
                    [&]<class T>(T) { backward<T>(tape, xv, gain, bias, centred, stats, std::move(dy), dx.get()); });
  });
  return out;
}

}  // namespace

Variable layer_norm(Tape& tape, const Variable& x, Parameter& gain, Parameter* bias, float epsilon) {
  return norm(tape, x, gain, bias, true, epsilon);
}

Variable rms_norm(Tape& tape, const Variable& x, Parameter& gain, float epsilon) {
  return norm(tape, x, gain, nullptr, false, epsilon);
}

}  // namespace muonp::core::ops
