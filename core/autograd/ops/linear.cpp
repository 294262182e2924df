#include "core/autograd/ops/linear.h"

#include "core/autograd/ops/common.h"
#include "core/autograd/ops/low_rank.h"
#include "core/device/blas.h"
#include "core/device/epilogue.h"

namespace muonp::core::ops {

namespace {

using Parts = std::vector<LinearPart>;

std::int64_t outputs_of(const LinearPart& part) { return part.weight->shape[0]; }

std::int64_t outputs_of(const Parts& parts) {
  std::int64_t sum = 0;
  for (const LinearPart& part : parts) sum += outputs_of(part);
  return sum;
}

// f(part, its first column in the result).
template <class F>
void for_each_part(const Parts& parts, const F& f) {
  std::int64_t column = 0;
  for (const LinearPart& part : parts) {
    f(part, column);
    column += outputs_of(part);
  }
}

// Matrices of some parts, [outputs, inputs] each, as few as there can be: those that lie one behind the other are one.
// `column`: of the first one's outputs in the result.
struct Stacked {
  MatrixView matrix;
  std::int64_t column;
  bool add;          // of gradients
  const void* bias;  // of all rows, one behind the other; or null
};
class Stack {
 public:
  void push(const Tensor& t, bool add, const Tensor& bias = {}) {
    const MatrixView view(t);
    if (!all_.empty() && continues(all_.back(), t, add, bias))
      all_.back().matrix.rows += view.rows;
    else
      all_.push_back({view, columns_, add, bias ? bias.raw() : nullptr});
    columns_ += view.rows;
  }
  // The outputs of a matrix that is left out.
  void skip(std::int64_t outputs) { columns_ += outputs; }
  std::vector<Stacked> take() { return std::move(all_); }

 private:
  bool continues(const Stacked& s, const Tensor& t, bool add, const Tensor& bias) const {
    const MatrixView& m = s.matrix;
    if (s.add != add || s.column + m.rows != columns_ || m.block(m.rows, 0, 0, 0).data != t.raw()) return false;
    if (!s.bias || !bias) return !s.bias && !bias;
    return static_cast<const char*>(s.bias) + m.rows * size_of(bias.dtype()) == bias.raw();
  }

  std::vector<Stacked> all_;
  std::int64_t columns_ = 0;
};

std::vector<Stacked> weights_of(const Parts& parts) {
  Stack stack;
  for (const LinearPart& part : parts) stack.push(part.weight->value, false);
  return stack.take();
}
std::vector<Stacked> biased_weights_of(const Parts& parts) {
  Stack stack;
  for (const LinearPart& part : parts) stack.push(part.weight->value, false, part.bias ? part.bias->value : Tensor());
  return stack.take();
}

// The columns of a result that belong to a matrix.
MatrixView columns_of(const Tensor& y, const Stacked& s) {
  const MatrixView all(y);
  return all.block(0, s.column, all.rows, s.matrix.rows);
}

void bias_gradients(Tape& tape, const Tensor& dy, const Parts& parts) {
  for_each_part(parts, [&](const LinearPart& part, std::int64_t column) {
    if (!part.bias || !part.bias->trained) return;
    const GradientSlot slot = tape.slot(*part.bias);
    with_float_type(dy.dtype(), [&]<class T>(T) {
      column_sums(tape.queue(), row_count(dy), outputs_of(part), {{{slot.gradient.data<float>(), slot.add}}},
                  BiasGradient<T>{dy.data<T>() + column, last_dim(dy)});
    });
  });
}

void weight_gradients(Tape& tape, const Tensor& x, const Tensor& dy, const Parts& parts) {
  Stack stack;
  for (const LinearPart& part : parts) {
    if (!part.weight->trained) {
      stack.skip(outputs_of(part));
      continue;
    }
    const GradientSlot slot = tape.slot(*part.weight);
    stack.push(slot.gradient, slot.add);
  }
  for (const Stacked& s : stack.take())
    gemm(tape.queue(), Op::transpose, Op::none, 1, columns_of(dy, s), MatrixView(x), s.add ? 1.0f : 0.0f, s.matrix);
}

// What the backward pass reads: weights where the input's gradient is wanted, and adapters.
std::vector<Parameter*> read_backward(const Parts& parts, bool input) {
  std::vector<Parameter*> read;
  for (const LinearPart& part : parts) {
    if (input) read.push_back(part.weight);
    read.push_back(part.adapter.a);
    read.push_back(part.adapter.b);
  }
  std::erase(read, nullptr);
  return read;
}

Tensor input_gradient(Tape& tape, const Tensor& dy, const Parts& parts, Gradient& dx) {
  const GradientSlot slot = tape.slot(dx);
  bool add = slot.add;
  for (const Stacked& s : weights_of(parts)) {
    gemm(tape.queue(), Op::none, Op::none, 1, columns_of(dy, s), s.matrix, add ? 1.0f : 0.0f, MatrixView(slot.gradient));
    add = true;
  }
  return slot.gradient;
}

// Of what the input is gelu of, `before`.
void input_gradient_through_gelu(Tape& tape, const Tensor& dy, const LinearPart& part, const Tensor& before, Gradient& dx) {
  const Epilogue slope{.gelu = Epilogue::Gelu::slope, .before = MatrixView(before)};
  gemm_with_epilogue(tape.queue(), Op::none, Op::none, MatrixView(dy), MatrixView(part.weight->value), slope,
                     MatrixView(tape.slot(dx).gradient));
}

std::vector<Adapted> adapters_of(const Parts& parts) {
  std::vector<Adapted> all;
  for_each_part(parts, [&](const LinearPart& part, std::int64_t column) {
    if (part.adapter.a) all.push_back({part.adapter, column});
  });
  return all;
}

void check(const Tensor& x, const LinearPart& part) {
  const Parameter &weight = *part.weight, *bias = part.bias;
  MUONP_ASSERT(weight.shape.size() == 2 && last_dim(x) == weight.shape[1], "{} {} applied to {}", weight.name,
               to_string(weight.shape), to_string(x.shape()));
  MUONP_ASSERT(!bias || (bias->shape == Shape{weight.shape[0]}), "bias {} {} of {} {}", bias->name, to_string(bias->shape),
               weight.name, to_string(weight.shape));
  MUONP_ASSERT(weight.value.dtype() == x.dtype() && (!bias || bias->value.dtype() == x.dtype()), "{} is {} and its input {}",
               weight.name, name_of(weight.value.dtype()), name_of(x.dtype()));
  if (part.adapter.a) check_adapter(x, part);
}

std::vector<Parameter*> parameters_of(const Parts& parts) {
  std::vector<Parameter*> all;
  for (const LinearPart& part : parts) {
    all.push_back(part.weight);
    if (part.bias) all.push_back(part.bias);
    if (part.adapter.a) all.insert(all.end(), {part.adapter.a, part.adapter.b});
  }
  return all;
}

// A layer's input: the value, where its gradient goes, and what it is gelu of, if it is.
struct Input {
  Tensor value;
  std::shared_ptr<Gradient> gradient;
  Tensor before_gelu = {};
};

void backward(Tape& tape, const Input& x, const Tensor& dy, const Parts& parts, const DropoutMask& dropped) {
  bias_gradients(tape, dy, parts);
  weight_gradients(tape, x.value, dy, parts);
  const std::vector<Adapted> adapters = adapters_of(parts);
  Gradient* dx = x.gradient.get();
  if (!dx && adapters.empty()) return;
  tape.acquire(read_backward(parts, dx != nullptr));
  // The slope is of the whole gradient, to which nobody else may have added.
  MUONP_ASSERT(!dx || !x.before_gelu || !dx->tensor, "{} is not alone in reading what gelu was taken of",
               parts.front().weight->name);
  Tensor to_x;
  if (dx && x.before_gelu && adapters.empty())
    input_gradient_through_gelu(tape, dy, parts.front(), x.before_gelu, *dx);
  else if (dx)
    to_x = input_gradient(tape, dy, parts, *dx);
  adapter_gradients(tape, adapters, dropped, x.value, dy, dx ? &to_x : nullptr);
  if (to_x && x.before_gelu) times_gelu_slope(tape.queue(), x.before_gelu, to_x);
}

// y = x·Wᵀ + b of all parts, and `gelu` of that where it is a tensor.
void forward(Tape& tape, const Tensor& x, const Parts& parts, const DropoutMask& dropped, const Tensor& y,
             const Tensor& gelu) {
  const std::vector<Adapted> adapters = adapters_of(parts);
  const bool at_once = gelu && adapters.empty();
  for (const Stacked& s : biased_weights_of(parts)) {
    Epilogue e{.bias = s.bias};
    if (at_once) e.gelu = Epilogue::Gelu::value, e.before = columns_of(y, s);
    const MatrixView out = at_once ? MatrixView(gelu) : columns_of(y, s);
    if (e.is_any())
      gemm_with_epilogue(tape.queue(), Op::none, Op::transpose, MatrixView(x), s.matrix, e, out);
    else
      gemm(tape.queue(), Op::none, Op::transpose, 1, MatrixView(x), s.matrix, 0, out);
  }
  add_adapters(tape, adapters, dropped, x, y);
  if (gelu && !at_once) core::gelu(tape.queue(), y, gelu);
}

Variable linear(Tape& tape, const Input& x, const Parts& parts, const DropoutMask& dropped, Tensor* gelu) {
  tape.acquire(parameters_of(parts));
  for (const LinearPart& part : parts) check(x.value, part);
  Shape shape = x.value.shape();
  shape.back() = outputs_of(parts);
  const Tensor y = tape.activation(shape, x.value.dtype());
  if (gelu) *gelu = tape.activation(std::move(shape), x.value.dtype());
  forward(tape, x.value, parts, dropped, y, gelu ? *gelu : Tensor());
  Variable out = tape.result(y, true);
  if (!tape.recording()) return out;
  tape.record(parameters_of(parts), [&tape, x, parts, dropped, dout = out->gradient] {
    const Tensor dy = take_gradient(dout);
    if (dy) backward(tape, x, dy, parts, dropped);
  });
  return out;
}

}  // namespace

Variable linear(Tape& tape, const Variable& x, std::span<const LinearPart> parts, const DropoutMask& dropped) {
  return linear(tape, Input{x->value, x->gradient}, {parts.begin(), parts.end()}, dropped, nullptr);
}

Variable linear(Tape& tape, const Variable& x, Parameter& weight, Parameter* bias) {
  const LinearPart part{&weight, bias};
  return linear(tape, x, {&part, 1});
}

GeluOfLinear linear_gelu(Tape& tape, const Variable& x, const LinearPart& part, const DropoutMask& dropped) {
  GeluOfLinear result;
  result.before = linear(tape, Input{x->value, x->gradient}, {part}, dropped, &result.value);
  return result;
}

Variable linear(Tape& tape, const GeluOfLinear& x, const LinearPart& part, const DropoutMask& dropped) {
  return linear(tape, Input{x.value, x.before->gradient, x.before->value}, {part}, dropped, nullptr);
}

}  // namespace muonp::core::ops
