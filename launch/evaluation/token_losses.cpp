#include "launch/evaluation/token_losses.h"

#include <numeric>

#include "core/device/host_view.h"

namespace muonp::launch {

std::vector<double> summed_losses(const Subject& subject, Passes& passes, const models::TokenBatch& batch) {
  core::Tape tape = passes.open();
  const core::Tensor losses = subject.model.token_losses(tape, batch);
  const core::HostView host(subject.device.queue(), losses, core::Access::read);
  std::vector<double> sums;
  for (std::int64_t i = 0; i < losses.dim(0); ++i) {
    const float* row = host.data<float>() + i * losses.dim(1);
    sums.push_back(std::accumulate(row, row + losses.dim(1), 0.0));
  }
  return sums;
}

}  // namespace muonp::launch
