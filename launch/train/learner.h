// A model, its data and its optimizer on one rank: what a training step, a validation and a benchmark work
// with.
#pragma once

#include <cmath>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/data/dataset.h"
#include "launch/program/session.h"
#include "launch/train/initial_weights.h"
#include "launch/train/logit_clipping.h"
#include "launch/train/run_config.h"
#include "models/model.h"
#include "optim/engine/distributed_optimizer.h"

namespace muonp::launch {

// How the sequences of a step are cut: batch = world size · micro_batch · passes.
struct BatchPlan {
  std::int64_t batch = 0, per_rank = 0, micro_batch = 0, passes = 0;
};
// Error unless the world size divides the batch, and the micro-batch a rank's share of it.
BatchPlan make_batch_plan(const core::DataConfig& data, int world_size);

optim::ParallelOptions parallel_options(const RunConfig& config, const models::LanguageModel& model,
                                        core::DeviceKind device);
// For a command over all processes that mpirun started; they must agree about the command and the configuration.
SessionSettings session_settings(const RunConfig& config, const std::string& command);

// Fills in what the configuration leaves to the tokenizer and the preset (the model's sizes, its vocabulary), tells
// schedules the run's length, and checks that the sequence fits in the model's context.
RunConfig resolve(RunConfig config);
// The same on all ranks: what is wrong on one is known to all. Collective.
RunConfig resolve(const RunConfig& config, dist::Communicator& communicator);

struct StepOutcome {
  double loss = 0;           // mean over the counted targets of the whole batch, all ranks and passes
  std::int64_t counted = 0;  // these targets
  bool stop = false;         // some rank was asked to stop
  optim::StepReport report;
  std::optional<LogitRecord> logits;  // with model.qk_clip; clipped 0 in a step that is skipped
  // This rank's. Forward and backward are without what they waited for communication, which `report` has; no two of the
  // four parts are of the same time. Of the total the rest is gradient norm, momenta, updates and the host's own work; on a
  // GPU it ends when the host has submitted the step.
  double forward_seconds = 0, backward_seconds = 0, total_seconds = 0;
  double other_seconds() const;
};

class Learner {
 public:
  // `config` as from resolve(). Collective. Error on all ranks if they do not read the same data, or not the same weights to
  // start from. Weights are undefined until initialize() or the optimizer's load_state(). `preparation` is told of data that
  // is being encoded, on rank 0; its `poll` and `threads` are set here.
  Learner(const RunConfig& config, Session& session, core::Preparation preparation = {});

  // Initial weights: those of model.from, of which each rank reads what it keeps, or random ones. Collective. `read` gets
  // the elements of all ranks together that were read so far, and how many there are. Throws Interrupted on all ranks when
  // one is asked to stop.
  void initialize(const std::function<void(std::int64_t, std::int64_t)>& read = {});

  // After the optimizer's load_state(), which knows of trained weights alone: the frozen ones, from where the run had them.
  // Collective.
  void fill_frozen(const std::function<void(std::int64_t, std::int64_t)>& read = {});

  // Step number `step`, counted from 0: the batch of that number, forward, backward, update unless `refuse` says true of the
  // step's loss, as it must on all ranks alike. Collective. Where a rank cannot read its samples any more (the text was
  // shortened), nothing moves and every rank throws a dist::AgreedError; likewise in a validation.
  StepOutcome step(std::int64_t step, bool stop_requested, const std::function<bool(double loss)>& refuse = {});
  // This rank cannot go on, but has to say so when all listen: the step or validation under way, or the next one, ends as if
  // its samples could not be read. The first failure counts.
  void fail_next(std::exception_ptr why);
  bool failed() const { return failure_ != nullptr; }
  // Where neither comes any more. Collective.
  void require_no_failure();
  // Over the validation data, or over its first `batches` batches (0: all); the sequences are shared out over ranks. NaN if
  // the configuration asks for no validation. `going_on` gets the sequences of all ranks together that are begun, and how
  // many there are. Collective. Throws Interrupted on all ranks when one is asked to stop.
  struct Validation {
    double loss = NAN;         // mean over the counted targets
    std::int64_t counted = 0;  // these targets
  };
  Validation validate(std::int64_t batches, const std::function<void(std::int64_t, std::int64_t)>& going_on = {});

  // Batches are shown to `observe` before their pass (tests).
  void observe_batches(std::function<void(const models::TokenBatch&)> observe) { observe_ = std::move(observe); }

  bool has_validation() const { return validation_ != nullptr; }
  models::LanguageModel& model() { return *model_; }
  optim::DistributedOptimizer& optimizer() { return *optimizer_; }
  const optim::DistributedOptimizer& optimizer() const { return *optimizer_; }
  const BatchPlan& batches() const { return batches_; }
  const core::Dataset& dataset() const { return dataset_; }
  // What is there of model.from; null for a run that has no such folder, or whose folder is gone.
  const models::PretrainedWeights* starting_weights() const { return initial_ ? initial_->folder() : nullptr; }
  // As launch/train/run_identity.h has it, with the starting weights.
  const core::NamedValues& data_identity() const { return data_identity_; }
  std::int64_t tokens_per_step() const { return batches_.batch * config_.data.sequence; }

 private:
  struct Pass;  // of one micro-batch: its loss and when its parts ended, on the device
  Pass run_pass(std::int64_t step, std::int64_t pass, std::int64_t counted);  // `counted`: targets of the whole step
  void prepare();
  void open_data(const core::TokenFiles& token_files);
  void open_starting_weights();
  core::WeightFiller filler() const;
  // Of an initialisation of all `parameters`.
  std::function<void(const core::Parameter&)> watch(const core::ParameterList& parameters,
                                                    const std::function<void(std::int64_t, std::int64_t)>& read) const;
  models::TokenBatch read_batch(std::int64_t rows, bool packed, const std::function<void(const core::SequenceSpans&)>& read);
  double evaluate(const models::TokenBatch& batch);

  const RunConfig config_;
  Session& session_;
  BatchPlan batches_;
  std::unique_ptr<models::LanguageModel> model_;
  core::Dataset dataset_;
  core::NamedValues data_identity_;
  std::unique_ptr<InitialWeights> initial_;  // null where the folder of a run that goes on is gone
  std::unique_ptr<core::TrainBatches> train_;
  std::unique_ptr<core::ValidationBatches> validation_;
  std::unique_ptr<optim::DistributedOptimizer> optimizer_;
  std::function<void(const models::TokenBatch&)> observe_;
  std::exception_ptr failure_;  // of this rank, which the others have not heard of
};

// Matrix-product rate of a device now, in flop/s: the best of several products of random numbers.
double measure_peak(core::Device& device, core::Dtype dtype);
// All ranks measure at once, so that they share their host as they do in a step. Collective.
double measure_peak_together(Session& session, core::Dtype dtype);

}  // namespace muonp::launch
