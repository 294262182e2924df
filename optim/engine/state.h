// What a step reports, and what a checkpoint holds of an optimizer.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/device/tensor.h"
#include "dist/plan/shard_plan.h"
#include "optim/engine/diagnostics.h"
#include "optim/engine/weight_scales.h"
#include "optim/plan/config.h"
#include "optim/storage/stored_state.h"

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
  dist::Interval interval;  // elements of the flattened whole that this is
  core::Tensor data;        // 1-D float32; none where `narrow` holds them
  StoredState narrow = {};  // kept in fewer bits; a checkpoint has what they stand for

  std::int64_t bytes() const { return 4 * interval.count(); }  // of its values, float32
  // All values, to bytes() of host memory; waits for the queue.
  void read(core::Device& device, void* to) const;
  // New ones: `source` writes those of a part of it to host memory. All at once, or of what is narrow a piece at a time,
  // which is rounded to nearest: values that were read come back as they were if the same elements are written.
  void write(core::Device& device, const std::function<void(const StateTensor& part, float* to)>& source) const;
};

// The states of a rule that live on shards, zero, of elements `mine` of a parameter. suffix: "#2" of rank 2's own.
std::vector<StoredState> stored_states(core::Device& device, const GroupConfig& group, const std::string& parameter,
                                       dist::Interval mine, const std::string& suffix, bool in_host_memory);
// In a checkpoint; `shape`: of the parameter.
StateTensor state_tensor(const StoredState& state, const core::Shape& shape);

}  // namespace muonp::optim
