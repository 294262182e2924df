// How long parts of a queue's work take. On a GPU that is time of the device, and the host does not wait for it until it
// asks.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/device/trace.h"

namespace muonp::core {

using Laps = std::vector<std::pair<std::unique_ptr<TimePoint>, std::unique_ptr<TimePoint>>>;  // begin, end

// Sum of the laps; waits until the queue has passed the last of them.
inline double seconds(const Laps& laps) {
  double sum = 0;
  for (const auto& [begin, end] : laps) sum += end->seconds_since(*begin);
  return sum;
}

class Stopwatch {
 public:
  // `phase`: what its laps are (core/device/trace.h).
  Stopwatch(Queue& queue, const char* phase) : queue_(queue), phase_(phase) {}

  // A lap is what `work` does, and submits to the queue.
  template <class Work>
  void time(const Work& work) {
    const Phase phase(phase_);
    std::unique_ptr<TimePoint> begin = queue_.now();
    work();
    laps_.emplace_back(std::move(begin), queue_.now());
  }
  // The laps since the last call.
  Laps take() { return std::exchange(laps_, {}); }

 private:
  Queue& queue_;
  const char* phase_;
  Laps laps_;
};

}  // namespace muonp::core
