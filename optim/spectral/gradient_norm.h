// Sums over float32 pieces in double precision, and what a gradient norm means for the step. The chunks that
// partial sums are taken over are fixed, so a result depends on the data and its order only, not on the
// number of threads.
#pragma once

#include <span>
#include <vector>

#include "core/device/device.h"
#include "core/device/tensor.h"

namespace muonp::optim {

struct SquareSum {
  double sum = 0;      // add over pieces and ranks; the root of the total is the norm
  bool finite = true;  // every element is finite (the largest sum that finite floats reach is far below double's limit)
};

// Of each piece; the host waits once. A tensor that is none has the sum 0.
std::vector<SquareSum> sums_of_squares(core::Queue& queue, std::span<const core::Tensor> pieces);
inline SquareSum sum_of_squares(core::Queue& queue, const core::Tensor& piece) {
  return sums_of_squares(queue, {&piece, 1}).front();
}
double inner_product(core::Queue& queue, const core::Tensor& a, const core::Tensor& b);  // one size
// ‖a − b‖².
double squared_distance(core::Queue& queue, const core::Tensor& a, const core::Tensor& b);

// What the gradient is multiplied by so that its norm is at most `limit`: min(1, limit/norm); limit 0 is off.
// A norm that is NaN or infinite is an InternalError: such a step is skipped before anything is clipped.
double clip_scale(double norm, double limit);

}  // namespace muonp::optim
