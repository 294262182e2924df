#include "optim/plan/step_graph.h"

#include <utility>

#include "core/base/index.h"

namespace muonp::optim {

using core::at;
using dist::Bound;
using dist::Stream;

StepGraph::StepGraph(const dist::ClusterView& cluster, bool overlap)
    : cluster_(cluster), overlap_(overlap), timeline_(cluster.rates().overlap) {}

int StepGraph::add(Stream stream, StepPhase phase, const Parts& parts, std::vector<int> after) {
  const int task = timeline_.add({stream, static_cast<int>(phase), parts, std::move(after)});
  for (const double seconds : parts) cost(phase).seconds += seconds;
  if (stream == Stream::compute) last_compute_ = task;
  return task;
}

int StepGraph::submit(StepPhase phase, int kernels) {
  if (!cluster_.cluster().gpus) return -1;
  Parts parts{};
  parts[at(Bound::host)] = kernels * cluster_.rates().launch_seconds;
  return add(Stream::host, phase, parts, {});
}

void StepGraph::compute(StepPhase phase, const DeviceWork& work) {
  const int submitted = submit(phase, work.kernels);
  std::vector<int> after = std::exchange(waited_for_, {});
  Parts parts{};
  if (submitted >= 0)
    after.push_back(submitted);
  else
    parts[at(Bound::host)] = work.kernels * cluster_.rates().launch_seconds;
  parts[at(Bound::products)] = work.products;
  parts[at(Bound::memory)] = cluster_.memory_seconds(work.memory) + work.elsewhere;
  add(Stream::compute, phase, parts, std::move(after));
  cost(phase).flops += work.flops;
  cost(phase).memory += work.memory;
}

StepGraph::Ticket StepGraph::communicate(StepPhase phase, double mean, const dist::Elapsed& elapsed) {
  if (cluster_.ranks() == 1) return -1;
  cost(phase).sent += mean;
  Parts parts{};
  parts[at(Bound::latency)] = elapsed.waiting;
  parts[at(elapsed.moves)] += elapsed.moving;
  const int submitted = submit(phase, 1);
  if (!overlap_) {
    std::vector<int> after = std::exchange(waited_for_, {});
    if (submitted >= 0) after.push_back(submitted);
    add(Stream::compute, phase, parts, std::move(after));
    return -1;
  }
  std::vector<int> after;
  if (last_compute_ >= 0) after.push_back(last_compute_);
  if (submitted >= 0) after.push_back(submitted);
  return add(Stream::communication, phase, parts, std::move(after));
}

void StepGraph::wait(Ticket ticket) {
  if (ticket >= 0) waited_for_.push_back(ticket);
}

void StepGraph::agree(int count) {
  const double n = cluster_.ranks(), bytes = (n - 1) * 8 * count;
  const dist::Elapsed elapsed =
      cluster_.communication(dist::Pattern::values, bytes, cluster_.rounds(dist::Pattern::values, true));
  Parts parts{};
  parts[at(Bound::host)] = cluster_.rates().read_seconds;
  parts[at(Bound::latency)] = elapsed.waiting;
  parts[at(elapsed.moves)] += elapsed.moving;
  cost(StepPhase::agree).sent += bytes;
  const bool gpus = cluster_.cluster().gpus;
  std::vector<int> after = std::exchange(waited_for_, {});
  if (gpus && last_compute_ >= 0) after.push_back(last_compute_);
  add(gpus ? Stream::host : Stream::compute, StepPhase::agree, parts, std::move(after));
}

std::array<PhaseCost, kStepPhases> StepGraph::costs(int from, int to, int steps) {
  timeline_.run();
  const auto critical = timeline_.critical(timeline_.finish(from), timeline_.finish(to), kStepPhases);
  std::array<PhaseCost, kStepPhases> costs = costs_;
  for (std::size_t p = 0; p < costs.size(); ++p) {
    costs[p].critical = critical[p];
    for (double* sum : {&costs[p].flops, &costs[p].memory, &costs[p].sent, &costs[p].seconds}) *sum /= steps;
  }
  return costs;
}

std::vector<dist::TimelineSpan> StepGraph::spans(int from, int to) const {
  const double begin = timeline_.finish(from);
  std::vector<dist::TimelineSpan> spans = timeline_.spans(begin, timeline_.finish(to));
  for (dist::TimelineSpan& span : spans) {
    span.start -= begin;
    span.finish -= begin;
  }
  return spans;
}

}  // namespace muonp::optim
