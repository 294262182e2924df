#include "launch/train/training_tasks.h"

#include "dist/comm/agreement.h"
#include "launch/train/trained_model.h"

namespace muonp::launch {

namespace {

Subject subject_of(const RunConfig& config, Session& session, Learner& learner) {
  optim::DistributedOptimizer& optimizer = learner.optimizer();
  return {.device = session.device(),
          .communicator = session.communicator(),
          .model = learner.model(),
          .tokenizer = learner.dataset().tokenizer,
          .compute = config.compute(),
          .open_pass =
              [&session, &optimizer] {
                optimizer.begin_evaluation();
                return core::Tape(session.device(), false, &optimizer.weights());
              },
          .passes_together = optimizer.plan().zero.gathers_each_pass};
}

bool is_due(const TrainingTask& task, std::int64_t step, bool last) {
  if (step == 0) return task.at_start;
  return last || (task.every > 0 && step % task.every == 0);
}

}  // namespace

TrainingTasks::TrainingTasks(const RunConfig& config, Session& session, Learner& learner)
    : learner_(learner), subject_(subject_of(config, session, learner)) {
  core::NamedValues fingerprints;
  dist::run_on_all(session.communicator(), [&] {
    if (config.eval.empty()) return;
    subject_.stop_tokens = stop_tokens_of_run(config.model.from, config.directory(), *subject_.tokenizer);
    for (const TrainingTask& entry : config.eval) {
      entries_.push_back({entry, open_task(entry.task, config.data, subject_)});
      fingerprints.push_back({fmt::format("what eval '{}' reads", entry.task.title()),
                              fmt::format("{:016x}", entries_.back().task->fingerprint())});
    }
  });
  dist::require_same(session.communicator(), fingerprints);
}

void TrainingTasks::run(std::int64_t step, bool last, const Watcher& watcher) const {
  for (const Entry& entry : entries_) {
    if (!is_due(entry.config, step, last)) continue;
    const std::string title = entry.config.task.title();
    learner_.optimizer().wait_for_weights();  // the ranks talk of other things between passes
    const TaskNumbers numbers = entry.task->run(
        subject_, [&](std::int64_t done, std::int64_t total) { watcher.going_on(title, done, total); }, nullptr);
    learner_.optimizer().wait_for_weights();
    watcher.done(title, numbers);
  }
}

}  // namespace muonp::launch
