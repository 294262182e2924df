#include "optim/rules/owner_step.h"

#include <algorithm>

#include "core/base/index.h"
#include "core/device/for_each.h"

namespace muonp::optim {

using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

// Of one batch.
core::Shape shape_in(const StateSpec& state, const MatrixBatch& b) {
  const std::vector<MatrixBatch> alone = {{.count = b.count, .rows = b.rows, .cols = b.cols}};
  return state_shape(state, alone);
}

}  // namespace

// A batch, and where its update goes.
struct OwnerStep::Laid {
  MatrixBatch layout;
  OwnedBatch batch;
  float* unpack_to = nullptr;  // null: the update lies where it is wanted
};

// Of several batches of a parameter, one comes after the other in each state.
std::vector<Tensor> OwnerStep::states_of(const MatrixInput& input, const MatrixBatch& batch, std::int64_t matrices_before,
                                         std::int64_t elements_before) const {
  MUONP_ASSERT(input.states.size() == states_.size(), "{}: {} states of {}", input.name, input.states.size(),
               states_.size());
  std::vector<Tensor> mine;
  for (std::size_t s = 0; s < states_.size(); ++s) {
    const core::Shape shape = shape_in(states_[s], batch);
    const std::int64_t size = core::element_count(shape);
    const std::int64_t before = states_[s].form == Form::elements ? elements_before : matrices_before * (size / batch.count);
    mine.push_back(input.states[s].flat(before, size).view(shape));
  }
  return mine;
}

std::vector<OwnerStep::Laid> OwnerStep::lay_out(core::Device& device, std::span<const MatrixInput> inputs) const {
  std::vector<Laid> all;
  for (const MatrixInput& input : inputs) {
    std::int64_t matrices = 0, elements = 0;
    for (const MatrixBatch& layout : matrix_batches(input.name, input.shape, input.split)) {
      if (layout.elements() == 0) continue;
      Laid laid{layout, {.parameter = input.name, .in = {}, .out = {}, .states = {}, .facts = input.facts}};
      const core::Shape shape = {layout.count, layout.rows, layout.cols};
      if (layout.contiguous()) {
        laid.batch.in = input.in.flat(layout.offset, layout.elements()).view(shape);
        laid.batch.out = input.out.flat(layout.offset, layout.elements()).view(shape);
      } else {
        laid.batch.in = Tensor::empty(device, shape, Dtype::float32, Category::exchange);
        laid.batch.out = Tensor::empty(device, shape, Dtype::float32, Category::exchange);
        pack(device.queue(), layout, input.in.data<float>(), laid.batch.in.data<float>());
        laid.unpack_to = input.out.data<float>();
      }
      laid.batch.states = states_of(input, layout, matrices, elements);
      matrices += layout.count;
      elements += layout.elements();
      all.push_back(std::move(laid));
    }
  }
  return all;
}

void OwnerStep::compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) {
  const std::vector<Laid> all = lay_out(device, inputs);
  if (spectral_) {
    std::vector<MatrixInput> raised;
    for (const Laid& laid : all) {
      const Tensor from = prepare(device, laid.batch);
      raised.push_back({.name = std::string(laid.batch.parameter),
                        .shape = from.shape(),
                        .in = from.flat(0, from.size()),
                        .out = laid.batch.out.flat(0, from.size())});
    }
    spectral_->compute(device, step, raised);
  }
  for (const Laid& laid : all) {
    finish(device, laid.batch);
    if (laid.unpack_to != nullptr) unpack(device.queue(), laid.layout, laid.batch.out.data<float>(), laid.unpack_to);
  }
}

double OwnerStep::cost(std::string_view name, const core::Shape& shape, const Split* split) const {
  double sum = spectral_ ? spectral_->cost(name, shape, split) : 0;
  for (const MatrixBatch& b : matrix_batches(name, shape, split))
    if (b.elements() > 0) sum += static_cast<double>(b.count) * flops(b.rows, b.cols);
  return sum;
}

std::int64_t OwnerStep::workspace_bytes(std::span<const MatrixInput> inputs) const {
  std::int64_t held = 0, most = 0;
  std::vector<MatrixInput> raised(inputs.begin(), inputs.end());
  for (MatrixInput& input : raised) {
    if (prepares()) input.begin.reset();
    for (const MatrixBatch& b : matrix_batches(input.name, input.shape, input.split)) {
      if (b.elements() == 0) continue;
      if (!b.contiguous()) {
        held += 2 * b.elements() * core::size_of(Dtype::float32);
        input.begin.reset();
      }
      most = std::max(most, b.count * scratch_bytes(b.rows, b.cols));
    }
  }
  return held + std::max(most, spectral_ ? spectral_->workspace_bytes(raised) : 0);
}

core::StridedBatch dense(const Tensor& x) {
  return {{x.raw(), x.dim(1), x.dim(2), x.dim(2), x.dtype()}, x.dim(1) * x.dim(2)};
}

namespace {

struct Multiply {
  float* x;
  float factor;
  using Elements = core::ElementArrays<&Multiply::x>;
  MUONP_HD void operator()(std::int64_t i) const { x[i] = factor * x[i]; }
};

struct Accumulate {
  float* average;
  const float* x;
  float beta, own;
  using Elements = core::ElementArrays<&Accumulate::average, &Accumulate::x>;
  MUONP_HD void operator()(std::int64_t i) const { average[i] = beta * average[i] + own * x[i]; }
};

}  // namespace

void multiply(core::Queue& queue, const Tensor& x, double factor) {
  core::for_each(queue, x.size(), Multiply{x.data<float>(), static_cast<float>(factor)});
}

void accumulate(core::Queue& queue, double beta, const Tensor& average, double own, const Tensor& x) {
  MUONP_ASSERT(average.size() == x.size(), "{} averages of {}", average.size(), x.size());
  core::for_each(queue, x.size(),
                 Accumulate{average.data<float>(), x.data<float>(), static_cast<float>(beta), static_cast<float>(own)});
}

Direction mean_gradient(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient) {
  multiply(queue, gradient.values, facts.gradient_scale);
  return {gradient.values};
}

}  // namespace muonp::optim
