#include "launch/train/trainer.h"

#include <cmath>

#include "core/files/abandoned_files.h"
#include "core/files/files.h"
#include "dist/comm/agreement.h"
#include "launch/program/long_work.h"
#include "launch/train/run_reading.h"
#include "launch/train/start_recording.h"
#include "launch/train/starting_weights.h"

namespace muonp::launch {

namespace {

// On rank 0; nothing in the folder is touched before.
std::unique_ptr<RunLock> hold_folder(const RunConfig& config, Session& session) {
  std::unique_ptr<RunLock> lock;
  run_on_rank_zero(session.communicator(), [&] {
    lock = std::make_unique<RunLock>(config.directory(), [&](const std::string& line) { session.log().info("{}", line); });
  });
  return lock;
}

// Whether all ranks are where this one is, with the same error.
bool known_to_all(const core::Error& error, const Session& session) {
  return session.world_size() == 1 || dynamic_cast<const dist::AgreedError*>(&error) != nullptr;
}

}  // namespace

Trainer::Trainer(const RunConfig& config, Session& session, std::vector<std::unique_ptr<TrainObserver>> observers)
    : config_(config),
      session_(session),
      observers_(std::move(observers)),
      lock_(hold_folder(config_, session)),
      learner_(config_, session, preparation()),
      tasks_(config_, session, learner_),
      checkpointing_(
          config_, session, learner_, [this](const SaveReport& saved) { tell_saved(saved); }, [this] { lock_->require(); }) {
  if (config_.log.peak) measure_first_peak();
  if (const auto resumed = checkpointing_.resume()) {
    progress_ = *resumed;
    begun_save_ = saved_step_ = progress_.step;
  } else {
    learner_.initialize([this](std::int64_t done, std::int64_t total) {
      preparation().progress("reading " + config_.model.from, done, total);
    });
  }
  guard_.emplace(config_.guard, progress_.losses);
  const std::string device = session_.device_text(), ranks = session_.communicator().description();
  const StartFacts facts{config_,
                         learner_.model(),
                         learner_.optimizer().plan(),
                         learner_.batches(),
                         device,
                         ranks,
                         learner_.dataset().description,
                         peak_ ? peak_->rate() : 0};
  run_on_rank_zero(session_.communicator(), [&] {
    if (!done()) write_records(facts);  // nothing of a run that is over changes
    for (const auto& observer : observers_) observer->started({facts, progress_.step, done()});
  });
}

core::Preparation Trainer::preparation() {
  return {.progress = [this](const std::string& what, std::int64_t done, std::int64_t total) {
    for (const auto& observer : observers_) observer->preparing({what, done, total});
  }};
}

// What the run's folder holds from the start.
void Trainer::write_records(const StartFacts& facts) {
  const std::string directory = config_.directory();
  core::make_directories(directory);
  core::remove_abandoned_files(directory);
  RunConfig copy = config_;
  core::write_file(directory + "/config.resolved.yaml", core::write_config([&](core::Fields& f) { copy.describe(f); }));
  core::write_file(directory + "/start.json", to_json(start_record(facts, progress_.step)));
  keep_tokenizer(config_.data.tokenizer, directory);
  if (const auto* weights = learner_.starting_weights()) keep_folder(*weights, config_.model.from, directory);
}

std::int64_t Trainer::run(const StopSignals& signals) {
  if (done()) return progress_.step;
  try {
    train(signals);
  } catch (const core::Error& error) {
    for (const auto& observer : observers_) observer->interrupted();
    if (!known_to_all(error, session_)) {
      session_.communicator().abort(error.what());  // now, not when a save that is being written has ended
      throw;
    }
    throw dist::AgreedError(error.what() + save_what_is_good());
  }
  const std::string stopped_by = !stopping_ ? "" : signals.requested() ? signals.name() : "another rank";
  for (const auto& observer : observers_) observer->ended({progress_, stopped_by});
  return progress_.step;
}

void Trainer::train(const StopSignals& signals) {
  if (progress_.step == 0) evaluate();
  if (!progress_.evaluated) {
    evaluate_what_is_due();
    begun_save_ = -1;  // the checkpoint that this run goes on from says that it is still to be done
    if (progress_.step == config_.run.steps && progress_.evaluated) save();
  }
  while (progress_.step < config_.run.steps && !stopping_) {
    one_step(signals.requested());
    checkpointing_.advance();
    const bool last = progress_.step == config_.run.steps;
    if (due(config_.log.hash_every)) require_equal_weights();
    evaluate_what_is_due();
    if (due(config_.checkpoint.every) || stopping_ || (last && config_.checkpoint.at_end)) save();
  }
  if (config_.run.steps == 0) save();
  checkpointing_.finish();
  learner_.require_no_failure();
}

// After a step, unless the run is to stop; what goes on from its checkpoint then makes up for it.
void Trainer::evaluate_what_is_due() {
  const bool last = progress_.step == config_.run.steps;
  if (!stopping_ && (due(config_.log.validate_every) || last)) validate();
  if (!stopping_) evaluate();
  progress_.evaluated = !stopping_;
}

void Trainer::tell(const std::function<void(TrainObserver&)>& what) {
  if (learner_.failed()) return;
  try {
    for (const auto& observer : observers_) what(*observer);
  } catch (const core::Error&) {
    learner_.fail_next(std::current_exception());
  }
}

void Trainer::one_step(bool stop_requested) {
  const StepOutcome outcome =
      learner_.step(progress_.step, stop_requested, [this](double loss) { return guard_->refuses(loss); });
  if (config_.guard.spike == "stop" && guard_->is_spike(outcome.loss)) stop_before(outcome);
  ++progress_.step;
  progress_.updates = learner_.optimizer().steps();
  progress_.tokens += learner_.tokens_per_step();
  progress_.seconds += outcome.total_seconds;
  progress_.evaluated = false;
  stopping_ = outcome.stop;
  const RunStep told = record_of(outcome);
  guard_->record(outcome.loss, outcome.report.skipped);
  progress_.losses = guard_->history();
  tell([&](TrainObserver& observer) { observer.stepped(told); });
  guard_->require_moves(outcome.loss);
}

void Trainer::stop_before(const StepOutcome& outcome) const {
  throw dist::AgreedError(
      fmt::format("step {}: {} (guard.spike: stop). The same step comes again when the run goes on: "
                  "with guard.spike: skip it is left out",
                  progress_.step + 1, guard_->explain(outcome.loss)));
}

void Trainer::require_equal_weights() {
  weights_differ_ = true;
  learner_.optimizer().require_equal_weights();
  weights_differ_ = false;
}

// After an Error that all ranks know of; what its message then says of the state.
std::string Trainer::save_what_is_good() {
  const std::int64_t step = progress_.step;
  // The optimizer counts a step before it moves anything.
  const bool whole = !weights_differ_ && learner_.optimizer().steps() == progress_.updates;
  std::string why;
  try {
    checkpointing_.finish();  // what is being saved is good
    if (whole && step > 0 && begun_save_ != step) checkpointing_.save(progress_, Checkpointing::Older::kept);
    checkpointing_.finish();
  } catch (const core::Error& error) {
    why = std::string(": ") + error.what();
  }
  if (step == 0) return "";
  if (saved_step_ == step)
    return fmt::format(". The state after step {} is saved in {}/checkpoints", step, config_.directory());
  if (whole) return fmt::format("\nThe state after step {} could not be saved{}", step, why);
  return fmt::format("\nThe state is not that after a step, and is not saved; the last checkpoint is of {}{}",
                     saved_step_ > 0 ? fmt::format("step {}", saved_step_) : "no step", why);
}

std::string Trainer::warning_of(const StepOutcome& outcome) const {
  const char* consequence =
      outcome.report.skipped ? "the step is skipped, weights and state are unchanged" : "the weights move";
  if (guard_->is_spike(outcome.loss)) return fmt::format("{}; {}", guard_->explain(outcome.loss), consequence);
  if (outcome.report.skipped) return fmt::format("the gradient's norm is not finite; {}", consequence);
  return "";
}

// A GPU was no one else's when it was measured at start, and its memory has other uses now.
void Trainer::measure_first_peak() {
  const double first = measure_peak_together(session_, config_.compute());
  const bool again = session_.device().kind() == core::DeviceKind::cpu;
  peak_.emplace([this, first, again] { return again ? measure_peak(session_.device(), config_.compute()) : first; }, first);
}

RunStep Trainer::record_of(const StepOutcome& outcome) {
  const optim::DistributedOptimizer& optimizer = learner_.optimizer();
  ExponentRecord exponents;
  if (!outcome.report.skipped)
    exponents = exponents_.record(optimizer.plan().groups, optimizer.steps(), outcome.report.shown);
  const double factor = optim::lr_factor(config_.schedule, progress_.step - 1, config_.run.steps);
  const BatchPlan& batches = learner_.batches();
  const std::int64_t time = config_.data.sequence;
  const models::LanguageModel& model = learner_.model();
  const double flops = model.step_flops(batches.per_rank, time) - model.skipped_flops(batches.per_rank, time);
  return {.progress = progress_,
          .outcome = outcome,
          .lr = config_.optimizer.matrices.lr.at(progress_.step) * factor,
          .tokens = static_cast<double>(learner_.tokens_per_step()),
          .sent_bytes = sent_bytes(),
          .memory_bytes = session_.device().allocator()->use().peak_total,
          .peak_share = peak_ && session_.rank() == 0 ? peak_->share(flops / outcome.total_seconds) : 0,
          .spike = guard_->is_spike(outcome.loss),
          .exponents = std::move(exponents),
          .warning = warning_of(outcome)};
}

// What `work` begins is given up when the run is to stop, and not told of.
void Trainer::with_averages(const std::function<void()>& work) {
  learner_.optimizer().hold_averages();
  try {
    work();
  } catch (const Interrupted&) {
    stopping_ = true;
  }
  learner_.optimizer().release_averages();
}

std::function<void(std::int64_t, std::int64_t)> Trainer::teller_of(const std::string& task) {
  return [this, task](std::int64_t done, std::int64_t of) {
    tell([&](TrainObserver& observer) { observer.evaluating(progress_, task, done, of); });
  };
}

void Trainer::validate() {
  if (!learner_.has_validation()) return;
  with_averages([&] {
    const Learner::Validation found = learner_.validate(config_.log.validation_batches, teller_of("validation"));
    tell([&](TrainObserver& observer) { observer.validated({progress_, found.loss, found.counted, sent_bytes()}); });
  });
}

void Trainer::evaluate() {
  const TrainingTasks::Watcher watcher{
      .going_on = [this](const std::string& task, std::int64_t done, std::int64_t of) { teller_of(task)(done, of); },
      .done =
          [this](const std::string& task, const TaskNumbers& numbers) {
            tell([&](TrainObserver& observer) { observer.evaluated({progress_, task, numbers}); });
          }};
  with_averages([&] { tasks_.run(progress_.step, progress_.step == config_.run.steps, watcher); });
}

double Trainer::sent_bytes() const {
  const optim::ExecutionPlan& plan = learner_.optimizer().plan();
  return static_cast<double>(progress_.step) * plan.bytes_sent_by_passes(learner_.batches().passes) +
         static_cast<double>(progress_.updates) * plan.bytes_sent_by_update();
}

void Trainer::tell_saved(const SaveReport& saved) {
  saved_step_ = saved.step;
  tell([&](TrainObserver& observer) { observer.saved(progress_, saved); });
}

void Trainer::save() {
  if (begun_save_ == progress_.step) return;
  begun_save_ = progress_.step;
  checkpointing_.save(progress_);
}

}  // namespace muonp::launch
