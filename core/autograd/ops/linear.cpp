#include "core/autograd/ops/linear.h"

#include "core/autograd/ops/common.h"
#include "core/device/blas.h"

namespace muonp::core::ops {

namespace {

template <class T>
struct AddBias {
  T* y;
  const T* bias;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    T* o = y + row.index * row.cols;
    const T* b = bias;
    row.over([](T more, T& out) { out = T(float(out) + float(more)); }, b, o);
  }
};

void add_bias(Queue& queue, const Tensor& y, const Tensor& bias) {
  with_float_type(y.dtype(), [&]<class T>(T) {
    for_each_row(queue, row_count(y), last_dim(y), AddBias<T>{y.data<T>(), bias.data<T>()});
  });
}

void bias_gradient(Queue& queue, const Tensor& dy, const GradientSlot& slot) {
  with_float_type(dy.dtype(), [&]<class T>(T) {
    column_sums(queue, row_count(dy), last_dim(dy), {{{slot.gradient.data<float>(), slot.add}}},
                BiasGradient<T>{dy.data<T>(), last_dim(dy)});
  });
}

}  // namespace

Variable linear(Tape& tape, const Variable& x, Parameter& weight, Parameter* bias) {
  const Tensor xv = x->value;
  tape.acquire({&weight, bias});
  MUONP_ASSERT(weight.shape.size() == 2 && last_dim(xv) == weight.shape[1], "{} {} applied to {}", weight.name,
               to_string(weight.shape), to_string(xv.shape()));
  MUONP_ASSERT(!bias || (bias->shape == Shape{weight.shape[0]}), "bias {} {} of {} {}", bias->name, to_string(bias->shape),
               weight.name, to_string(weight.shape));
  MUONP_ASSERT(weight.value.dtype() == xv.dtype() && (!bias || bias->value.dtype() == xv.dtype()),
               "{} is {} and its input {}", weight.name, name_of(weight.value.dtype()), name_of(xv.dtype()));
  Shape shape = xv.shape();
  shape.back() = weight.shape[0];
  const Tensor y = tape.activation(std::move(shape), xv.dtype());
  gemm(tape.queue(), Op::none, Op::transpose, 1, MatrixView(xv), MatrixView(weight.value), 0, MatrixView(y));
  if (bias) add_bias(tape.queue(), y, bias->value);

  Variable out = tape.result(y, true);
  if (!tape.recording()) return out;
  std::vector<Parameter*> uses{&weight};
  if (bias) uses.push_back(bias);
  tape.record(std::move(uses), [&tape, xv, &weight, bias, dx = x->gradient, dout = out->gradient] {
    const Tensor dy = take_gradient(dout);
    if (!dy) return;
    if (bias) bias_gradient(tape.queue(), dy, tape.slot(*bias));
    const GradientSlot dw = tape.slot(weight);
    gemm(tape.queue(), Op::transpose, Op::none, 1, MatrixView(dy), MatrixView(xv), dw.add ? 1.0f : 0.0f,
         MatrixView(dw.gradient));
    if (!dx) return;
    const GradientSlot slot = tape.slot(*dx);
    gemm(tape.queue(), Op::none, Op::none, 1, MatrixView(dy), MatrixView(tape.weight(weight)), slot.add ? 1.0f : 0.0f,
         MatrixView(slot.gradient));
  });
  return out;
}

}  // namespace muonp::core::ops
