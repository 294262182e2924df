#include "optim/rules/pair_step.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/math.h"
#include "core/device/blas.h"
#include "core/device/host_view.h"
#include "core/device/lapack.h"

namespace muonp::optim {

using core::Category;
using core::Dtype;
using core::MatrixView;
using core::Op;
using core::Tensor;

namespace {

// The inverse square root of a Gram matrix, with eigenvalues raised to kLeastEigenvalue of the largest; of zero, zero.
Tensor inverse_root(core::Device& device, const MatrixInput& input) {
  const Tensor& gram = input.pair->gram;
  const std::int64_t n = gram.dim(0);
  std::vector<double> vectors(static_cast<std::size_t>(n * n)), values(static_cast<std::size_t>(n));
  {
    const core::HostView host(device.queue(), gram, core::Access::read);
    std::copy_n(host.data<float>(), n * n, vectors.begin());
  }
  if (const int info = core::lapack::dsyev(core::to_int(n), vectors.data(), values.data()); info != 0)
    core::fail("parameter {}: the Gram matrix of the other factor has no eigenvalues (LAPACK's info {})", input.name, info);
  const double largest = values.back(), least = kLeastEigenvalue * largest;
  const Tensor root = Tensor::empty(device, {n, n}, Dtype::float32, Category::exchange);
  const core::HostView to(device.queue(), root, core::Access::write);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < n && largest > 0; ++k)  // column k is an eigenvector
        sum += vectors[static_cast<std::size_t>(k * n + i)] * vectors[static_cast<std::size_t>(k * n + j)] /
               std::sqrt(std::max(values[static_cast<std::size_t>(k)], least));
      to.data<float>()[i * n + j] = static_cast<float>(sum);
    }
  to.upload();
  return root;
}

// factor·X·R of B, factor·R·X of A. R is symmetric.
void whiten(core::Device& device, const MatrixInput& input, double factor, const Tensor& root, const Tensor& x,
            const Tensor& to) {
  const MatrixView from(x), by(root);
  const bool is_b = input.pair->is_b;
  core::gemm(device.queue(), Op::none, Op::none, static_cast<float>(factor), is_b ? from : by, is_b ? by : from, 0,
             MatrixView(to));
}

core::Shape product_shape(const MatrixInput& input) {
  return input.pair->is_b ? core::Shape{input.shape[0], input.pair->other} : core::Shape{input.pair->other, input.shape[1]};
}

struct Whitened {
  const MatrixInput* input;
  Tensor root, in;
};

}  // namespace

void PairStep::compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) {
  std::vector<MatrixInput> others, pairs;
  std::vector<Whitened> whitened;
  for (const MatrixInput& input : inputs) {
    if (!input.pair || core::element_count(input.shape) == 0) {
      others.push_back(input);
      continue;
    }
    if (input.split != nullptr)
      core::fail("parameter {}: split {} of an adapter's factor with lora: whitened; valid are b_only and both", input.name,
                 input.split->name);
    const Tensor in = Tensor::empty(device, input.shape, Dtype::float32, Category::exchange);
    whitened.push_back({&input, inverse_root(device, input), in});
    whiten(device, input, 1, whitened.back().root, input.in.view(input.shape), in);
    pairs.push_back(input);
    pairs.back().in = in.flat(0, in.size());
  }
  if (!others.empty()) plain_->compute(device, step, others);
  if (!pairs.empty()) unscaled_->compute(device, step, pairs);
  for (const Whitened& w : whitened) {
    const Tensor out = w.input->out.view(w.input->shape);
    const double factor =
        update_factor(device.queue(), scale_, unscaled_->exponent(step), w.in, out, product_shape(*w.input));
    w.in.copy_from(device.queue(), out);
    whiten(device, *w.input, factor / (2 * w.input->pair->scale), w.root, w.in, out);
  }
}

double PairStep::cost(std::string_view name, const core::Shape& shape, const Split* split) const {
  const double elements = static_cast<double>(core::element_count(shape));
  return plain_->cost(name, shape, split) + 4 * elements * static_cast<double>(std::min(shape[0], shape[1]));
}

// As if all were factors, whose whitened inputs have memory of their own.
std::int64_t PairStep::workspace_bytes(std::span<const MatrixInput> inputs) const {
  std::int64_t elements = 0;
  std::vector<MatrixInput> own(inputs.begin(), inputs.end());
  for (MatrixInput& input : own) {
    const std::int64_t rank = std::min(input.shape[0], input.shape[1]);
    elements += core::element_count(input.shape) + rank * rank;
    input.begin.reset();
  }
  return 4 * elements + plain_->workspace_bytes(own);
}

}  // namespace muonp::optim
