// The owner's step of a rule that does more with a matrix than to raise its singular values: what it keeps of each matrix,
// what comes before the spectral power and what after. Splits and stacks are laid out here, so that a rule sees dense
// matrices of one shape.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/device/blas.h"
#include "optim/rules/spectral_step.h"

namespace muonp::optim {

// Matrices of one shape of one parameter.
struct OwnedBatch {
  std::string_view parameter;
  core::Tensor in, out;  // direction and update: float32 [count, rows, cols]; no overlap
  std::vector<core::Tensor>
      states;  // of these matrices, in the order of the rule's: [count, rows, cols], [count, rows], ...
  StepFacts facts;

  std::int64_t count() const { return in.dim(0); }
  std::int64_t rows() const { return in.dim(1); }
  std::int64_t cols() const { return in.dim(2); }
  std::int64_t side() const { return std::min(rows(), cols()); }  // the smaller one
};

class OwnerStep : public MatrixStep {
 public:
  // states: those of the rule with Home::owner. spectral: none where no singular values are raised.
  explicit OwnerStep(std::vector<StateSpec> states, std::unique_ptr<SpectralStep> spectral = nullptr)
      : states_(std::move(states)), spectral_(std::move(spectral)) {}

  void compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) final;
  double cost(std::string_view name, const core::Shape& shape, const Split* split) const final;
  core::Dtype product_dtype() const final { return spectral_ ? spectral_->product_dtype() : core::Dtype::float32; }
  std::int64_t workspace_bytes(std::span<const MatrixInput> inputs) const final;

 protected:
  // What is raised in the place of the direction; by default the direction. [count, rows, cols]. Where it may lie elsewhere
  // prepares() says so.
  virtual core::Tensor prepare(core::Device& /*device*/, const OwnedBatch& batch) const { return batch.in; }
  virtual bool prepares() const { return false; }
  // batch.out: the spectral power, or undefined where there is none, becomes the update.
  virtual void finish(core::Device& device, const OwnedBatch& batch) const = 0;
  // Floating-point operations of prepare() and finish() of one matrix.
  virtual double flops(std::int64_t rows, std::int64_t cols) const = 0;
  // Bytes that they take for a moment, a matrix.
  virtual std::int64_t scratch_bytes(std::int64_t /*rows*/, std::int64_t /*cols*/) const { return 0; }

 private:
  struct Laid;
  std::vector<Laid> lay_out(core::Device& device, std::span<const MatrixInput> inputs) const;
  std::vector<core::Tensor> states_of(const MatrixInput& input, const MatrixBatch& batch, std::int64_t matrices_before,
                                      std::int64_t elements_before) const;

  std::vector<StateSpec> states_;
  std::unique_ptr<SpectralStep> spectral_;
};

// Dense [count, rows, cols] as matrices for products and norms.
core::StridedBatch dense(const core::Tensor& matrices);

// The gradient in its own memory as the mean over ranks, clipped: the direction of a rule whose averages are on the owner.
Direction mean_gradient(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient);

// x ← factor·x
void multiply(core::Queue& queue, const core::Tensor& x, double factor);
// average ← beta·average + own·x
void accumulate(core::Queue& queue, double beta, const core::Tensor& average, double own, const core::Tensor& x);

}  // namespace muonp::optim
