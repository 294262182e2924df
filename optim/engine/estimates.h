// What a rank has told the owners so far (Gⱼ of dist/compression/error_feedback.h), in fewer bits than float32.
#pragma once

#include <cstdint>
#include <vector>

#include "dist/compression/error_feedback.h"
#include "optim/engine/state.h"
#include "optim/plan/compression.h"

namespace muonp::optim {

class NarrowEstimates final : public dist::EstimateStore {
 public:
  NarrowEstimates(core::Device& device, const CompressionPlan& plan, int rank);

  core::Tensor read(int matrix) const override;
  void write(int matrix, const core::Tensor& values, std::uint64_t step) override;
  void add_state(int matrix, std::vector<StateTensor>& to) const;

 private:
  core::Device& device_;
  const CompressionPlan& plan_;
  std::vector<std::vector<StoredState>> states_;  // by matrix, of its estimate_pieces()
};

}  // namespace muonp::optim
