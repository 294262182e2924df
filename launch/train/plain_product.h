// A matrix product as a measure of what a device can do: [rows, n] times [n, n], ready to run. Of random numbers: zeros let
// a processor keep a higher clock.
#pragma once

#include <vector>

#include "core/device/blas.h"

namespace muonp::launch {

class PlainProduct {
 public:
  PlainProduct(core::Device& device, std::int64_t rows, std::int64_t n, core::Dtype dtype);

  void run() const;
  double flops() const { return flops_; }

  std::vector<double> seconds;  // of runs, for whoever measures

 private:
  core::Queue& queue_;
  core::Tensor a_, b_, c_;
  double flops_;
};

}  // namespace muonp::launch
