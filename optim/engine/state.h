// What a step reports, and what a checkpoint holds of an optimizer.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "core/device/tensor.h"
#include "dist/plan/shard_plan.h"
#include "optim/engine/diagnostics.h"
#include "optim/engine/weight_scales.h"

namespace muonp::optim {

// Of the mean gradient over all ranks, before clipping; the same at every stage and N. Of gradients that are sent
// compressed the mean is never there: the root of their mean square over ranks, which is no smaller, stands for it.
struct GradientNorm {
  double value = 0;
  bool finite = false;  // on all ranks
};

// A scalar of a matrix that its rule shows after a step (Rule::shown_state).
struct ShownState {
  int group = 0;       // of the plan's groups
  std::string state;   // "p"
  std::string matrix;  // the parameter's name, and where it is several matrices "#" and which one, from 0
  double value = 0;
};

struct StepOptions {
  // false: weights may still be on their way when it returns, behind the next forward pass; only a tape that was given
  // weights() may read them until wait_for_weights().
  bool wait = true;
  double loss = NAN;         // of the step, the mean over ranks, for rules that need it (Needs::loss)
  WeightScales scales = {};  // what weights are multiplied by after their update, with the average that a rule evaluates
  bool measure = false;      // the report has the spectra of the matrices that ParallelOptions::spectra chooses
};

struct StepReport {
  double gradient_norm = 0;  // GradientNorm::value
  double clip = 1;           // factor the gradient was multiplied by
  bool skipped = false;      // nothing was changed anywhere
  // This rank's: in its spectral steps, and standing still for messages (and so for slower ranks) since the last
  // take_waits(). What is sent behind computation is not waited for. On a GPU it is the device's queue that stands still.
  double spectral_seconds = 0, communication_seconds = 0;
  std::vector<ShownState> shown = {};  // of all matrices, on every rank
  // Of a step that was measured, on every rank: of all matrices that were wanted; and what it took this rank, waiting
  // included.
  std::vector<MatrixRecord> spectra = {};
  double spectra_seconds = 0;
};

// A tensor that makes up the optimizer's state: this rank's part of it. "<parameter>/master" and "<parameter>/<state>" are
// shared out over ranks; "<parameter>/<state>#<rank>" is whole and one rank's own (docs/compression.md).
struct StateTensor {
  std::string name;         // "blocks.0.mlp.up.weight/momentum"; master weights are ".../master"
  core::Shape shape;        // of the whole
  dist::Interval interval;  // elements of the flattened whole that `data` holds
  core::Tensor data;        // 1-D float32
};

}  // namespace muonp::optim
