#include "launch/train/trainer.h"

#include <cmath>
#include <cstdlib>

#include "core/base/units.h"
#include "core/files/abandoned_files.h"
#include "core/files/files.h"
#include "dist/comm/agreement.h"
#include "launch/program/patience.h"
#include "launch/train/run_reading.h"
#include "launch/train/start_report.h"

namespace muonp::launch {

namespace {

// mpirun gives ranks a terminal of its own whatever its output goes to; launch/mpirun.sh knows better.
ProgressOptions progress_options(Session& session) {
  ProgressOptions options = progress_options_for(stdout);
  if (session.mpi() != nullptr) options.terminal = options.terminal && std::getenv("MUONP_TERMINAL") != nullptr;
  return options;
}

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

Trainer::Trainer(const RunConfig& config, Session& session)
    : config_(config),
      session_(session),
      lock_(hold_folder(config_, session)),
      learner_(config_, session),
      checkpointing_(
          config_, session, learner_, [this](const SaveReport& saved) { print_saved(saved); },
          [this] { lock_->require(); }) {
  if (config_.log.peak) measure_first_peak();
  if (const auto resumed = checkpointing_.resume()) {
    progress_ = *resumed;
    begun_save_ = saved_step_ = progress_.step;
  } else {
    learner_.optimizer().initialize(static_cast<std::uint64_t>(config_.run.seed));
  }
  guard_.emplace(config_.guard, progress_.losses);
  run_on_rank_zero(session_.communicator(), [&] {
    if (done()) return;  // nothing of a run that is over changes
    const std::string directory = config_.directory();
    core::make_directories(directory);
    core::remove_abandoned_files(directory);
    RunConfig copy = config_;
    core::write_file(directory + "/config.resolved.yaml",
                     core::write_config([&](core::Fields& f) { copy.describe(f); }));
    keep_tokenizer(config_.data.tokenizer, directory);
    metrics_ = std::make_unique<MetricsWriter>(directory + "/metrics.jsonl", progress_.step + 1);
  });
  if (session_.rank() == 0) print_start();
}

void Trainer::print_start() {
  const core::Log& log = session_.log();
  if (!session_.device_note().empty()) log.info("{}", session_.device_note());
  log.info("{}",
           start_report({config_, learner_.model(), learner_.optimizer().plan(), learner_.batches(), session_.device_text(),
                         session_.communicator().description(), learner_.dataset().description, peak_ ? peak_->rate() : 0}));
  if (done())
    log.info("Nothing to do: {} is at step {}, and run.steps is {}; with more steps it goes on from there.",
             config_.directory(), progress_.step, config_.run.steps);
  else if (progress_.step > 0)
    log.info("Resumed {} after step {} of {}.", config_.directory(), progress_.step, config_.run.steps);
}

std::int64_t Trainer::run(const StopSignals& signals) {
  if (done()) return progress_.step;
  if (session_.rank() == 0)
    bar_ =
        std::make_unique<Progress>(config_.run.name, config_.run.steps,
                                   std::min(progress_.step, config_.run.steps), progress_options(session_));
  try {
    train(signals);
  } catch (const core::Error& error) {
    if (!known_to_all(error, session_)) {
      bar_.reset();
      session_.communicator().abort(error.what());  // now, not when a save that is being written has ended
      throw;
    }
    throw dist::AgreedError(error.what() + save_what_is_good());
  }
  bar_.reset();
  if (const std::int64_t skipped = guard_->history().skipped; skipped > 0)
    session_.log().info("{} of {} steps were skipped.", skipped, progress_.step);
  if (stopping_)
    session_.log().info("Stopped by {} after step {} of {}; the same command goes on from there.",
                        signals.requested() ? signals.name() : "another rank", progress_.step,
                        config_.run.steps);
  return progress_.step;
}

void Trainer::train(const StopSignals& signals) {
  while (progress_.step < config_.run.steps && !stopping_) {
    one_step(signals.requested());
    checkpointing_.advance();
    const bool last = progress_.step == config_.run.steps;
    if (due(config_.log.hash_every)) require_equal_weights();
    if (!stopping_ && (due(config_.log.validate_every) || last)) validate();
    if (due(config_.checkpoint.every) || stopping_ || (last && config_.checkpoint.at_end)) save();
  }
  checkpointing_.finish();
  learner_.require_no_failure();
}

// On rank 0. An Error is told to all ranks with the next step, so that the run ends with a save; more is not written.
void Trainer::put_out(const std::function<void()>& output) {
  if (session_.rank() != 0 || learner_.failed()) return;
  try {
    output();
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
  stopping_ = outcome.stop;
  put_out([&] {
    warn_of(outcome);
    print_step(outcome);
  });
  guard_->record(outcome.loss, outcome.report.skipped);
  progress_.losses = guard_->history();
  guard_->require_moves(outcome.loss);
}

void Trainer::stop_before(const StepOutcome& outcome) const {
  throw dist::AgreedError(fmt::format("step {}: {} (guard.spike: stop). The same step comes again when the run goes on: "
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

void Trainer::warn_of(const StepOutcome& outcome) {
  const char* consequence =
      outcome.report.skipped ? "the step is skipped, weights and state are unchanged" : "the weights move";
  if (guard_->is_spike(outcome.loss))
    session_.log().warn("step {}: {}; {}", progress_.step, guard_->explain(outcome.loss), consequence);
  else if (outcome.report.skipped)
    session_.log().warn("step {}: the gradient's norm is not finite; {}", progress_.step, consequence);
}

// A GPU was no one else's when it was measured at start, and its memory has other uses now.
void Trainer::measure_first_peak() {
  const double first = measure_peak_together(session_, config_.compute());
  const bool again = session_.device().kind() == core::DeviceKind::cpu;
  peak_.emplace([this, first, again] { return again ? measure_peak(session_.device(), config_.compute()) : first; }, first);
}

void Trainer::print_step(const StepOutcome& outcome) {
  const double factor = optim::lr_factor(config_.schedule, progress_.step - 1, config_.run.steps);
  const double lr = config_.optimizer.matrices.lr.at(progress_.step) * factor;
  const double seconds = outcome.total_seconds;
  const double rate = static_cast<double>(learner_.tokens_per_step()) / seconds;
  const BatchPlan& batches = learner_.batches();
  const std::int64_t time = config_.data.sequence;
  const models::LanguageModel& model = learner_.model();
  const double flops = model.step_flops(batches.per_rank, time) - model.skipped_flops(batches.per_rank, time);
  const double share = peak_ ? peak_->share(flops / seconds) : 0;
  metrics_->write({{"step", progress_.step},
                   {"loss", outcome.loss},
                   {"lr", lr},
                   {"grad_norm", outcome.report.gradient_norm},
                   {"seconds", progress_.seconds},
                   {"tokens", progress_.tokens},
                   {"sent_bytes", sent_bytes()},
                   {"step_seconds", seconds},
                   {"spectral_seconds", outcome.report.spectral_seconds},
                   {"communication_seconds", outcome.report.communication_seconds},
                   {"skipped", outcome.report.skipped},
                   {"spike", guard_->is_spike(outcome.loss)}});
  if (due(config_.log.every) || progress_.step == config_.run.steps || stopping_) {
    const std::string peak = peak_ ? fmt::format("  {:4.1f} % of peak", 100 * share) : "";
    bar_->print(fmt::format("step {:>{}}/{}  loss {:8.4f}  norm {:9.3e}  lr {:8.2e}  {:8.1f} ms  {:>16}{}",
                            progress_.step, std::to_string(config_.run.steps).size(), config_.run.steps,
                            outcome.loss, outcome.report.gradient_norm, lr, 1e3 * seconds,
                            format_rate(rate, "tokens"), peak));
  }
  bar_->update(progress_.step, fmt::format("loss {:.4f}", outcome.loss));
}

void Trainer::validate() {
  if (!learner_.has_validation()) return;
  last_validation_ = learner_.validate(config_.log.validation_batches);
  put_out([&] {
    metrics_->write({{"step", progress_.step},
                     {"val_loss", last_validation_},
                     {"seconds", progress_.seconds},
                     {"tokens", progress_.tokens},
                     {"sent_bytes", sent_bytes()}});
    bar_->print(fmt::format("step {:>{}}/{}  validation loss {:.4f}", progress_.step,
                            std::to_string(config_.run.steps).size(), config_.run.steps, last_validation_));
  });
}

double Trainer::sent_bytes() const {
  const optim::ExecutionPlan& plan = learner_.optimizer().plan();
  return static_cast<double>(progress_.step) * plan.bytes_sent_by_passes(learner_.batches().passes) +
         static_cast<double>(progress_.updates) * plan.bytes_sent_by_update();
}

void Trainer::print_saved(const SaveReport& saved) {
  saved_step_ = saved.step;
  put_out([&] {
    metrics_->write({{"step", progress_.step},
                     {"checkpoint", saved.step},
                     {"checkpoint_bytes", saved.bytes},
                     {"checkpoint_blocked_seconds", saved.blocked_seconds},
                     {"checkpoint_longest_seconds", saved.longest_seconds},
                     {"checkpoint_total_seconds", saved.total_seconds}});
  });
}

void Trainer::save() {
  if (begun_save_ == progress_.step) return;
  begun_save_ = progress_.step;
  checkpointing_.save(progress_);
}

}  // namespace muonp::launch
