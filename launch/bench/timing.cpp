#include "launch/bench/timing.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/base/clock.h"
#include "core/base/error.h"

namespace muonp::launch {

namespace {

double quantile(const std::vector<double>& sorted, double part) {
  const double place = part * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - std::floor(place)) * (sorted[above] - sorted[below]);
}

}  // namespace

Timing timing_of(std::vector<double> seconds) {
  MUONP_ASSERT(!seconds.empty(), "the quartiles of nothing");
  std::ranges::sort(seconds);
  return {quantile(seconds, 0.25), quantile(seconds, 0.5), quantile(seconds, 0.75), static_cast<int>(seconds.size())};
}

Timing time_alone(core::Queue& queue, const std::function<void()>& work, double budget, int least) {
  work();
  queue.synchronize();
  std::vector<double> seconds;
  double all = 0;
  while (all < budget || static_cast<int>(seconds.size()) < least) {
    const double start = core::seconds_now();
    work();
    queue.synchronize();
    seconds.push_back(core::seconds_now() - start);
    all += seconds.back();
  }
  return timing_of(std::move(seconds));
}

Timing time_together(dist::Communicator& communicator, core::Queue& queue, const std::function<void()>& work,
                     double budget) {
  constexpr double kLeast = 3, kMost = 1000;
  const auto once = [&] {
    queue.synchronize();
    communicator.barrier();
    const double start = core::seconds_now();
    work();
    queue.synchronize();
    double seconds = core::seconds_now() - start;
    communicator.all_reduce(std::span<double>(&seconds, 1), dist::Reduce::max);
    return seconds;
  };
  once();
  const auto repeats = static_cast<int>(std::clamp(budget / std::max(once(), 1e-9), kLeast, kMost));
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) seconds.push_back(once());
  return timing_of(std::move(seconds));
}

}  // namespace muonp::launch
