#include "core/autograd/ops/norm.h"

#include "core/autograd/ops/common.h"
#include "core/autograd/ops/residual.h"

namespace muonp::core::ops {

namespace {

// One row is normalised as n = (x − mean)·scale; mean is 0 for the root-mean-square form.
struct Statistics {
  float* mean;
  float* scale;
};

// The tensor behind it: [2, rows] float32.
Statistics statistics_of(const Tensor& t) { return {t.data<float>(), t.data<float>() + t.dim(1)}; }

// What a norm does to a row, whose values are value(x[c], ...) of the arrays x, ...; its statistics are kept.
struct RowNorm {
  Statistics stats;
  bool centred;
  float epsilon;

  struct Of {
    float mean, scale;
    // A product by itself: what a caller multiplies by next must not be multiplied with `scale` first, here and not there.
    MUONP_HD float operator()(float value) const { return math::fused(value - mean, scale, 0.0f); }
  };
  MUONP_ROW_KERNEL Of operator()(const R& row, const auto& value, auto... x) const {
    const float per_column = 1.0f / static_cast<float>(row.cols);
    const float mean = centred ? row.sum(value, x...) * per_column : 0.0f;
    const auto square = [=](auto... element) { return (value(element...) - mean) * (value(element...) - mean); };
    const float scale = 1.0f / sqrtf(row.sum(square, x...) * per_column + epsilon);
    stats.mean[row.index] = mean;
    stats.scale[row.index] = scale;
    return {mean, scale};
  }
};

template <class T>
struct Normalise {
  const T *x, *gain, *bias;  // no bias: null
  T* y;
  RowNorm norm;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T *i = x + row.index * row.cols, *g = gain, *b = bias;
    const Written<T> o{y + row.index * row.cols};
    const auto n = norm(
        row, [](T value) { return float(value); }, i);
    if (b) {
      row.over([=](T value, T by, T more, T& out) { out = T(math::fused(n(float(value)), float(by), float(more))); }, i, g,
               b, o);
    } else {
      row.over([=](T value, T by, T& out) { out = T(n(float(value)) * float(by)); }, i, g, o);
    }
  }
};

// The same of a sum, which is stored too. What a kernel has stored it may not read: each pass adds again, and rounds as the
// stored sum is; as one operation, which no compiler takes apart to add something else first.
template <class T>
struct NormaliseSum {
  const T *left, *right, *gain, *bias;  // no bias: null
  T *sum, *y;
  RowNorm norm;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t at = row.index * row.cols;
    const T *l = left + at, *r = right + at, *g = gain, *b = bias;
    const Written<T> s{sum + at}, o{y + at};
    const auto total = [](T x, T more) { return float(T(math::fused(1.0f, float(x), float(more)))); };
    const auto n = norm(row, total, l, r);
    if (b) {
      row.over(
          [=](T x, T more, T by, T shift, T& stored, T& out) {
            stored = T(total(x, more));
            out = T(math::fused(n(total(x, more)), float(by), float(shift)));
          },
          l, r, g, b, s, o);
    } else {
      row.over(
          [=](T x, T more, T by, T& stored, T& out) {
            stored = T(total(x, more));
            out = T(n(total(x, more)) * float(by));
          },
          l, r, g, s, o);
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

void check(const Tensor& xv, const Parameter& gain, const Parameter* bias) {
  MUONP_ASSERT(gain.shape == Shape{last_dim(xv)} && (!bias || bias->shape == gain.shape), "{} {} applied to {}", gain.name,
               to_string(gain.shape), to_string(xv.shape()));
  MUONP_ASSERT(!bias || bias->trained == gain.trained, "{} and {}: one of them is frozen", gain.name, bias->name);
  MUONP_ASSERT(gain.value.dtype() == xv.dtype(), "{} is {} and its input {}", gain.name, name_of(gain.value.dtype()),
               name_of(xv.dtype()));
}

// y, the normalised x, as a value of the tape.
Variable result(Tape& tape, const Variable& x, Parameter& gain, Parameter* bias, bool centred, const Tensor& y,
                const Tensor& stats) {
  const Tensor xv = x->value;
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

template <class T>
const T* values_of(const Parameter* p) {
  return p ? p->value.data<T>() : nullptr;
}

Variable norm(Tape& tape, const Variable& x, Parameter& gain, Parameter* bias, bool centred, float epsilon) {
  const Tensor xv = x->value;
  tape.acquire({&gain, bias});
  check(xv, gain, bias);
  const Tensor y = tape.activation(xv.shape(), xv.dtype());
  const Tensor stats = tape.activation({2, row_count(xv)}, Dtype::float32);
  with_float_type(xv.dtype(), [&]<class T>(T) {
    for_each_row(
        tape.queue(), row_count(xv), last_dim(xv),
        Normalise<T>{
            xv.data<T>(), values_of<T>(&gain), values_of<T>(bias), y.data<T>(), {statistics_of(stats), centred, epsilon}});
  });
  return result(tape, x, gain, bias, centred, y, stats);
}

SumAndNorm sum_and_norm(Tape& tape, const Variable& a, const Variable& b, Parameter& gain, Parameter* bias, bool centred,
                        float epsilon) {
  const Tensor av = a->value, bv = b->value, sum = sum_of_terms(tape, a, b);
  tape.acquire({&gain, bias});
  check(sum, gain, bias);
  const Tensor y = tape.activation(sum.shape(), sum.dtype());
  const Tensor stats = tape.activation({2, row_count(sum)}, Dtype::float32);
  with_float_type(sum.dtype(), [&]<class T>(T) {
    for_each_row(tape.queue(), row_count(sum), last_dim(sum),
                 NormaliseSum<T>{av.data<T>(),
                                 bv.data<T>(),
                                 values_of<T>(&gain),
                                 values_of<T>(bias),
                                 sum.data<T>(),
                                 y.data<T>(),
                                 {statistics_of(stats), centred, epsilon}});
  });
  const Variable total = sum_result(tape, a, b, sum);
  return {total, result(tape, total, gain, bias, centred, y, stats)};
}

}  // namespace

Variable layer_norm(Tape& tape, const Variable& x, Parameter& gain, Parameter* bias, float epsilon) {
  return norm(tape, x, gain, bias, true, epsilon);
}

Variable rms_norm(Tape& tape, const Variable& x, Parameter& gain, float epsilon) {
  return norm(tape, x, gain, nullptr, false, epsilon);
}

SumAndNorm add_and_layer_norm(Tape& tape, const Variable& a, const Variable& b, Parameter& gain, Parameter* bias,
                              float epsilon) {
  return sum_and_norm(tape, a, b, gain, bias, true, epsilon);
}

SumAndNorm add_and_rms_norm(Tape& tape, const Variable& a, const Variable& b, Parameter& gain, float epsilon) {
  return sum_and_norm(tape, a, b, gain, nullptr, false, epsilon);
}

}  // namespace muonp::core::ops
