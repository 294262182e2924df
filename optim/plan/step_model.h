// How long a training step takes on a cluster, without running it: its tasks as the trainer submits them, on the streams on
// which they run (dist/plan/timeline.h), each as long as its work takes at the cluster's rates. docs/planner.md has every
// formula. A pure function of its arguments.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/autograd/parameter.h"
#include "dist/plan/cluster.h"
#include "dist/plan/timeline.h"
#include "optim/plan/execution_plan.h"

namespace muonp::optim {

// What an operation of a pass does: it acquires weights, multiplies, and moves the rest of its bytes through memory.
struct OperationWork {
  std::vector<core::Parameter*> reads;
  std::vector<core::Parameter*> completes;  // in the backward pass: parameters whose gradient is complete after it
  std::vector<dist::Work> products;
  double traffic = 0;  // bytes
  int kernels = 0;
};
struct PassWork {                           // of one micro-batch
  core::Dtype type = core::Dtype::float32;  // of the products
  std::vector<OperationWork> forward, backward;
};

enum class StepPhase : std::uint8_t {
  forward,
  backward,
  reduce,     // of gradients over ranks
  gather,     // of weights
  agree,      // norm of the gradient, loss
  momentum,   // and rules that go element by element
  to_owners,  // of matrices, and what a compressor does to them
  matrices,   // the work of owners
  to_all,     // of updates
  update      // of weights
};
inline constexpr int kStepPhases = 10;
std::string_view name_of(StepPhase phase);

struct PhaseCost {                               // of a rank
  double flops = 0;                              // of the busiest rank
  double memory = 0;                             // bytes that move through its memory
  double sent = 0;                               // bytes to other ranks, the mean over ranks
  double seconds = 0;                            // of its tasks, one after the other
  std::array<double, dist::kBounds> critical{};  // seconds of the step's time, by what bounds them
  double exposed() const;                        // sum of these
};

struct StepPrediction {
  std::array<PhaseCost, kStepPhases> phases;
  std::int64_t passes = 0, simulated_passes = 0;  // those beyond the simulated ones add what the last of these does
  std::vector<dist::TimelineSpan> spans;          // of a step with so many passes, amid others; phase: a StepPhase
  const PhaseCost& at(StepPhase phase) const { return phases[static_cast<std::size_t>(phase)]; }
  double seconds() const;        // of a step amid others: the sum of what the phases add to it
  double bytes_sent() const;     // of a rank in a step, everything, the mean over ranks
  dist::Bound bound_by() const;  // of the largest part of the time
  double bound_share() const;    // how large that is
};

// Whose step it is. `sharded`: this program's, at the plan's stage and with its compression. The others are what is compared
// with it. On a plan of stage 0: every rank computes every matrix's update (Muon under plain data parallelism), or its owner
// does and sends the weights to all. On one of stage 1: all ranks gather all momenta, and each computes every update for the
// slice that it keeps (a sharded optimizer without owners).
enum class StepScheme : std::uint8_t { sharded, replicated, owner_broadcast, gathered };

// `passes` of the work, then the update. Error where the cluster does not know a rate that is needed.
StepPrediction predict_step(const ExecutionPlan& plan, const PassWork& work, std::int64_t passes,
                            const dist::ClusterView& cluster, StepScheme scheme = StepScheme::sharded);

}  // namespace muonp::optim
