// Parameters whose gradients and weights cross the network compressed (EF21-Muon, arXiv 2510.00643, with the spectral power
// in place of its linear minimisation; docs/compression.md). Every rank keeps weights, gradients and the states that a rule
// has on shards whole.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "dist/compression/error_feedback.h"
#include "optim/engine/estimates.h"
#include "optim/engine/owner_side.h"
#include "optim/engine/part.h"
#include "optim/plan/compression.h"

namespace muonp::optim {

class FeedbackPart final : public Part {
 public:
  // `parameters`: the plan's. spectra: as ParallelOptions. Allocates their values and gradients. weight_dtype: what the
  // forward pass reads; W itself is float32 and the same memory where that is float32 too.
  FeedbackPart(core::Device& device, core::ParameterList parameters, const CompressionPlan& plan, core::Dtype weight_dtype,
               const std::vector<std::string>& spectra, dist::Communicator& communicator, dist::AsyncQueue& async,
               core::Stopwatch& measuring);

  core::GradientSlot slot(core::Parameter& parameter) override;
  void complete(core::Parameter& parameter) override;

  void fill(int parameter, const core::WeightFiller& fill) override;
  void initialized() override;  // nothing is sent
  void begin_pass(bool first, bool last) override;
  void finish_passes() override;
  // Of this rank's own gradient times the number of ranks: the sum over ranks is never there, and the root of the mean
  // square stands for the norm of the mean.
  NormPiece norm_piece(int parameter) const override;
  void update(const StepInputs& inputs, core::Stopwatch& matrix_time) override;
  std::vector<MeasuredMatrix> take_measured() override;
  std::vector<StateTensor> state(bool for_saving) const override;
  std::vector<ShownState> shown(std::int64_t step) const override { return owner_.shown(step); }
  void loaded() override;                                   // weights in their compute type; nothing is sent
  std::uint64_t weights_hash(std::uint64_t seed) override;  // of W

 private:
  struct Matrix {  // in the order of the owner plan's tasks
    int parameter;
    core::Tensor gradient;
    std::vector<StoredState> states;  // those with Home::shard, whole, of this rank
  };
  struct OwnedPiece {  // of a parameter, in a slice that this rank owns
    int parameter;
    dist::Interval in_parameter, in_slice;
    std::vector<StoredState> states;  // in the order of Rule::states()
  };
  struct FlatBucket {
    core::Tensor gradient;
    std::vector<OwnedPiece> mine;
  };
  std::vector<core::Tensor> allocate(core::Dtype weight_dtype);
  void allocate_bucket(int bucket, core::Category of_weights, std::vector<core::Tensor>& exchanged);
  void place_weights(core::Dtype weight_dtype);
  StepFacts facts(int parameter, const StepInputs& inputs, double gradient_scale) const;
  dist::ErrorFeedback::Target target(int matrix, const StepInputs& inputs);
  // Of one matrix in a step that is measured. Of this rank: ‖T − G‖² before and after the round, ‖T‖²; of the owner:
  // ‖X − W‖² when X has moved and after the round, ‖W‖².
  struct Squares {
    double lag_before = 0, lag = 0, target = 0;
    double gap_before = 0, gap = 0, weights = 0;
  };
  bool wants(int matrix) const { return diagnostics_.wants(matrices_[core::at(matrix)].parameter); }
  void measure(std::span<const OwnerSide::Matrix> matrices);
  double squared_lag(int matrix, const dist::ErrorFeedback::Target& target) const;
  double squared_gap(int matrix) const;
  void measure_before(std::span<const dist::ErrorFeedback::Target> targets);
  void measure_after(std::span<const dist::ErrorFeedback::Target> targets);
  void move(std::span<const dist::OwnedMatrix> mine, const StepInputs& inputs, core::Stopwatch& matrix_time);
  void move_matrices(std::span<const OwnerSide::Matrix> matrices, const StepInputs& inputs);
  void move_slice(int bucket, const StepInputs& inputs);
  // After a round, W on every rank and X on its owner alike: what W lacks of X is scaled with them.
  void scale(const StepInputs& inputs);
  void cast(int parameter);
  void add_matrix_state(int matrix, bool for_saving, std::vector<StateTensor>& to) const;
  void add_bucket_state(int bucket, bool for_saving, std::vector<StateTensor>& to) const;
  const GroupConfig& config_of(int parameter) const { return plan_.groups.group_for(parameter).config; }

  core::Device& device_;
  core::ParameterList parameters_;
  const CompressionPlan& plan_;
  dist::Communicator& communicator_;
  dist::AsyncQueue& async_;
  std::unordered_map<const core::Parameter*, int> index_;
  std::vector<core::Tensor> weights_;     // W, by parameter
  std::vector<core::Tensor> gradients_;   // by parameter
  std::vector<bool> written_, complete_;  // by parameter
  std::vector<Matrix> matrices_;
  std::vector<FlatBucket> buckets_;
  OwnerSide owner_;
  core::Stopwatch& measuring_;
  std::vector<Squares> squares_;  // by matrix
  Diagnostics diagnostics_;
  std::unique_ptr<NarrowEstimates> estimates_;  // null: the feedback has them, as float32
  std::unique_ptr<dist::ErrorFeedback> feedback_;
};

}  // namespace muonp::optim
