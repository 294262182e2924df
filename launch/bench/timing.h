// Times of repeated work. docs/benchmarks.md has the formulas.
#pragma once

#include <functional>
#include <vector>

#include "core/device/device.h"
#include "dist/comm/communicator.h"

namespace muonp::launch {

// Seconds. Quartiles by linear interpolation between the sorted values (type 7 of Hyndman and Fan 1996).
struct Timing {
  double lower = 0, median = 0, upper = 0;
  int repeats = 0;
};
Timing timing_of(std::vector<double> seconds);  // of at least one

// Of work of one rank: once unmeasured, then at least `least` times and until `budget` seconds have passed.
Timing time_alone(core::Queue& queue, const std::function<void()>& work, double budget, int least = 3);

// Of collective work, after a barrier each time; of each repeat the time of the slowest rank. Once unmeasured, then as often
// as the slowest rank's first time goes into `budget`, from 3 to 1000 times. Collective; all ranks get the same.
Timing time_together(dist::Communicator& communicator, core::Queue& queue, const std::function<void()>& work, double budget);

}  // namespace muonp::launch
