#include "core/autograd/ops/low_rank.h"

#include "core/autograd/ops/common.h"

namespace muonp::core::ops {

namespace {

template <class T>
struct AddTo {
  const T* more;
  T* total;
  using Elements = ElementArrays<&AddTo::more, &AddTo::total>;
  MUONP_HD void operator()(std::int64_t i) const { total[i] = T(float(total[i]) + float(more[i])); }
};

// What adapters read of x.
Tensor read_of(Tape& tape, const DropoutMask& dropped, const Tensor& x) {
  if (dropped.probability == 0) return x;
  const Tensor read = tape.activation(x.shape(), x.dtype());
  drop(tape.queue(), dropped, x, read);
  return read;
}

// x·Aᵀ
Tensor reduced(Tape& tape, const Adapted& adapted, const Tensor& x) {
  const Tensor h = tape.activation({row_count(x), adapted.rank()}, x.dtype());
  gemm(tape.queue(), Op::none, Op::transpose, 1, MatrixView(x), MatrixView(adapted.adapter.a->value), 0, MatrixView(h));
  return h;
}

MatrixView columns_of(const Adapted& adapted, const Tensor& y) {
  const MatrixView all(y);
  return all.block(0, adapted.column, all.rows, adapted.outputs());
}

// dW += alpha·leftᵀ·right
void add_product(Tape& tape, Parameter& parameter, float alpha, const MatrixView& left, const MatrixView& right) {
  if (!parameter.trained) return;
  const GradientSlot slot = tape.slot(parameter);
  gemm(tape.queue(), Op::transpose, Op::none, alpha, left, right, slot.add ? 1.0f : 0.0f, MatrixView(slot.gradient));
}

// The gradients of one adapter; `dread`, where it is not null: of what it read, added to what is there or, with `first`,
// written.
void backward(Tape& tape, const Adapted& adapted, const Tensor& read, const Tensor& dy, const Tensor* dread, bool first) {
  const LowRank& adapter = adapted.adapter;
  const MatrixView slope = columns_of(adapted, dy);
  const Tensor h = reduced(tape, adapted, read);
  add_product(tape, *adapter.b, adapter.scale, slope, MatrixView(h));
  // The gradient of h, in its memory.
  gemm(tape.queue(), Op::none, Op::none, adapter.scale, slope, MatrixView(adapter.b->value), 0, MatrixView(h));
  add_product(tape, *adapter.a, 1, MatrixView(h), MatrixView(read));
  if (dread)
    gemm(tape.queue(), Op::none, Op::none, 1, MatrixView(h), MatrixView(adapter.a->value), first ? 0.0f : 1.0f,
         MatrixView(*dread));
}

}  // namespace

void check_adapter(const Tensor& x, const LinearPart& part) {
  const Parameter &a = *part.adapter.a, &b = *part.adapter.b;
  MUONP_ASSERT(a.shape == (Shape{a.shape[0], last_dim(x)}) && b.shape == (Shape{part.weight->shape[0], a.shape[0]}),
               "{} {} and {} {} beside {} {}", a.name, to_string(a.shape), b.name, to_string(b.shape), part.weight->name,
               to_string(part.weight->shape));
  MUONP_ASSERT(a.value.dtype() == x.dtype() && b.value.dtype() == x.dtype(), "{} is {} and its input {}", a.name,
               name_of(a.value.dtype()), name_of(x.dtype()));
}

void add_adapters(Tape& tape, const std::vector<Adapted>& all, const DropoutMask& dropped, const Tensor& x,
                  const Tensor& y) {
  if (all.empty()) return;
  const Tensor read = read_of(tape, dropped, x);
  for (const Adapted& adapted : all)
    gemm(tape.queue(), Op::none, Op::transpose, adapted.adapter.scale, MatrixView(reduced(tape, adapted, read)),
         MatrixView(adapted.adapter.b->value), 1, columns_of(adapted, y));
}

void adapter_gradients(Tape& tape, const std::vector<Adapted>& all, const DropoutMask& dropped, const Tensor& x,
                       const Tensor& dy, const Tensor* dx) {
  if (all.empty()) return;
  const Tensor read = read_of(tape, dropped, x);
  if (dx == nullptr || dropped.probability == 0) {
    for (const Adapted& adapted : all) backward(tape, adapted, read, dy, dx, false);
    return;
  }
  const Tensor dread = tape.activation(x.shape(), x.dtype());
  for (std::size_t i = 0; i < all.size(); ++i) backward(tape, all[i], read, dy, &dread, i == 0);
  drop(tape.queue(), dropped, dread, dread);
  with_float_type(x.dtype(), [&]<class T>(T) {
    for_each(tape.queue(), dread.size(), AddTo<T>{dread.data<T>(), dx->data<T>()});
  });
}

}  // namespace muonp::core::ops
