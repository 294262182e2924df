// The part of the distributed optimizer whose gradients and weights cross the network compressed (EF21-Muon, arXiv
// 2510.00643, with the spectral power in place of its linear minimisation; docs/compression.md).
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "dist/compression/error_feedback.h"
#include "optim/engine/state.h"
#include "optim/plan/compression.h"
#include "optim/rules/matrix_step.h"
#include "optim/spectral/gradient_norm.h"

namespace muonp::optim {

class CompressedOptimizer final : public core::GradientSink {
 public:
  // `parameters`: the plan's. Allocates their values and gradients. weight_dtype: what the forward pass reads; W itself is
  // float32 and the same memory where that is float32 too.
  CompressedOptimizer(core::Device& device, core::ParameterList parameters, const CompressionPlan& plan,
                      core::Dtype weight_dtype, dist::Communicator& communicator, dist::AsyncQueue& async);

  // Initial weights from the seed; nothing is sent.
  void initialize(std::uint64_t seed);

  bool holds(const core::Parameter& parameter) const { return index_.contains(&parameter); }
  void begin_pass(bool first);
  core::GradientSlot slot(core::Parameter& parameter) override;
  void complete(core::Parameter& parameter) override;
  // After the last pass. InternalError if a gradient is missing.
  void finish() const;
  SquareSum squares(int parameter) const;  // of this rank's own gradient

  // One round of error feedback; steps: counted from 1. `spectral` times the spectral steps. Collective.
  void step(double lr_factor, double gradient_scale, std::int64_t steps, core::Stopwatch& spectral);

  // What a checkpoint holds, for_saving: of this rank; else what this rank needs of it.
  std::vector<StateTensor> state(bool for_saving) const;
  // After the state was filled in: weights in their compute type.
  void loaded();
  std::uint64_t weights_hash(std::uint64_t seed) const;  // of W

 private:
  struct Matrix {
    int parameter;
    core::Tensor gradient, momentum;
  };
  struct Piece {  // of a parameter, in a slice that this rank owns
    int parameter;
    dist::Interval in_parameter, in_slice;
    std::vector<core::Tensor> states;  // in the order of GroupConfig::state_names()
  };
  struct Bucket {
    core::Tensor gradient;
    std::vector<Piece> mine;
  };
  void place_weights(core::Dtype weight_dtype);
  dist::ErrorFeedback::Target target(int matrix, double gradient_scale);
  void move(std::span<const int> mine, double lr_factor, std::int64_t steps, core::Stopwatch& spectral);
  void move_matrices(std::span<const int> mine, double lr_factor);
  void move_slice(int bucket, double lr_factor, std::int64_t steps);
  void cast(int matrix);
  void add_matrix_state(int matrix, bool for_saving, std::vector<StateTensor>& to) const;
  void add_bucket_state(int bucket, bool for_saving, std::vector<StateTensor>& to) const;
  const GroupConfig& config_of(int parameter) const { return plan_.groups.group_for(parameter).config; }

  core::Device& device_;
  core::ParameterList parameters_;
  const CompressionPlan& plan_;
  dist::Communicator& communicator_;
  std::unordered_map<const core::Parameter*, int> index_;
  std::vector<core::Tensor> weights_;            // W, by parameter
  std::vector<core::Tensor> gradients_;          // by parameter
  std::vector<bool> written_, complete_;         // by parameter
  std::vector<Matrix> matrices_;                 // in the order of the feedback's
  std::vector<Bucket> buckets_;
  std::vector<std::unique_ptr<MatrixStep>> matrix_steps_;  // by group; null for elementwise rules
  std::unique_ptr<dist::ErrorFeedback> feedback_;
};

}  // namespace muonp::optim
