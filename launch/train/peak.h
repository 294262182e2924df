// The rate of a rank's matrix products, which its steps are compared with.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>

namespace muonp::launch {

// No step is faster than its products. One that seems to be shows that the machine was busy when they were measured: they
// are measured again, and the peak is the most that was seen, so no share exceeds 1. Rates in flop/s.
class Peak {
 public:
  Peak(std::function<double()> measure, double first) : measure_(std::move(measure)), rate_(first) {}

  double rate() const { return rate_; }
  double share(double of_step) {
    if (of_step > rate_) rate_ = std::max(rate_, measure_());
    rate_ = std::max(rate_, of_step);
    return of_step / rate_;
  }

 private:
  std::function<double()> measure_;
  double rate_;
};

}  // namespace muonp::launch
