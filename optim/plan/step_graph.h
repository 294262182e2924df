// The tasks of a step as they are submitted: what the host, the device and the communicator are given, in order. Inside
// step_model.cpp; the order is that of Learner::step, DistributedOptimizer and the parts that it is made of.
#pragma once

#include <vector>

#include "dist/plan/timeline.h"
#include "optim/plan/step_model.h"

namespace muonp::optim {

struct DeviceWork {
  double products = 0;  // seconds
  double flops = 0;
  double memory = 0;     // bytes
  double elsewhere = 0;  // seconds bound by memory, whose bytes are not counted
  int kernels = 1;
};

class StepGraph {
 public:
  // overlap: collectives run beside the compute stream, as parallel.overlap asks for.
  StepGraph(const dist::ClusterView& cluster, bool overlap);

  using Ticket = int;  // of communication; negative: nothing to wait for
  void compute(StepPhase phase, const DeviceWork& work);
  // Begins when the device has done what it was given before. busiest: bytes that the slowest rank sends or receives.
  Ticket communicate(StepPhase phase, dist::Pattern pattern, double mean, double busiest, double rounds) {
    return communicate(phase, mean, cluster_.communication(pattern, busiest, rounds));
  }
  Ticket communicate(StepPhase phase, double mean, const dist::Elapsed& elapsed);
  // What the device is given from now on comes after it.
  void wait(Ticket ticket);
  // The host waits for the device and then agrees with the others on `count` doubles.
  void agree(int count);

  int mark() const { return last_compute_; }
  // The part of the time between two marks that each phase adds, and the work of all tasks so far divided by `steps`.
  std::array<PhaseCost, kStepPhases> costs(int from, int to, int steps);
  // After costs(): what the streams do between two marks, in seconds from the first.
  std::vector<dist::TimelineSpan> spans(int from, int to) const;

 private:
  using Parts = std::array<double, dist::kBounds>;
  int add(dist::Stream stream, StepPhase phase, const Parts& parts, std::vector<int> after);
  int submit(StepPhase phase, int kernels);  // by the host of a GPU; the task that ends it, or −1
  PhaseCost& cost(StepPhase phase) { return costs_[static_cast<std::size_t>(phase)]; }

  const dist::ClusterView& cluster_;
  bool overlap_;
  dist::Timeline timeline_;
  std::array<PhaseCost, kStepPhases> costs_;
  std::vector<int> waited_for_;  // by the next task of the compute stream
  int last_compute_ = -1;
};

}  // namespace muonp::optim
