// The parameters of an optimizer that cross the network in one way: exact and sharded (sharded_part.h), or compressed with
// error feedback (feedback_part.h). Indices of parameters count within the part.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/autograd/autograd.h"
#include "core/device/stopwatch.h"
#include "optim/engine/diagnostics.h"
#include "optim/engine/state.h"
#include "optim/spectral/gradient_norm.h"

namespace muonp::optim {

// Of one step, the same on all ranks.
struct StepInputs {
  std::int64_t step = 1;          // counted from 1
  double lr_factor = 1;           // on every group's learning rate
  double clip = 1;                // on the gradient
  double loss = 0;                // of the step, the mean over ranks
  std::span<const double> norms;  // of each parameter's mean gradient, by index in the model; 0 where no rule needs it
  std::span<const WeightScales> scales;  // by index in the model
  bool measure = false;                  // spectra of what ParallelOptions::spectra chooses
};

class Part : public core::GradientSink {
 public:
  // Initial weights: fill() for each parameter, what this rank keeps of it, then initialized(), which is collective.
  virtual void fill(int parameter, const core::WeightFiller& fill) = 0;
  virtual void initialized() = 0;
  // Before each backward pass. first: forget earlier gradients; last: after it the sum over ranks is wanted.
  virtual void begin_pass(bool first, bool last) = 0;
  // After the last pass: the gradients are complete, and summed over ranks where they are to be. InternalError if one is
  // missing.
  virtual void finish_passes() = 0;
  // What this rank adds to the sum over ranks that is the square of the norm of a parameter's summed gradient: weight·Σ x².
  struct NormPiece {
    core::Tensor values;  // none: nothing
    double weight = 1;
  };
  virtual NormPiece norm_piece(int parameter) const = 0;
  // One step. `matrix_time` times the work on whole matrices. Collective.
  virtual void update(const StepInputs& inputs, core::Stopwatch& matrix_time) = 0;
  // After a step that measured, and when no work of it is under way: what this rank measured, of matrices that it owns.
  // Collective.
  virtual std::vector<MeasuredMatrix> take_measured() = 0;
  // What a checkpoint holds: for_saving, of this rank; else what this rank needs of it.
  virtual std::vector<StateTensor> state(bool for_saving) const = 0;
  // What rules show after a step, in an order that is the same on all ranks; 0 of what another rank owns.
  virtual std::vector<ShownState> shown(std::int64_t step) const = 0;
  // After the state was filled in: weights follow. Collective.
  virtual void loaded() = 0;
  virtual std::uint64_t weights_hash(std::uint64_t seed) = 0;
};

}  // namespace muonp::optim
