// A learner's state in checkpoints: written by all ranks in parallel, opened at any number of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/checkpoint_store.h"
#include "launch/learner.h"
#include "launch/loss_guard.h"

namespace muonp::launch {

// What a run needs beside tensors to go on exactly where it stopped. The sample order, dropout and the
// schedule are functions of (seed, step).
struct RunProgress {
  std::int64_t step = 0;     // steps done
  std::int64_t updates = 0;  // of them, those that were not skipped
  std::int64_t tokens = 0;
  double seconds = 0;
  LossHistory losses;
};

class Checkpointing {
 public:
  Checkpointing(const RunConfig& config, Session& session, Learner& learner);

  // Collective. An Error (a full disk, say) is thrown on all ranks alike and leaves earlier checkpoints as
  // they are.
  void save(const RunProgress& progress);
  // Follows checkpoint.resume. Collective. Nothing if the run starts from the beginning; Error if it may not:
  // the checkpoint belongs to another seed, batch or sequence, none that exists is intact, or `none` would
  // overwrite some.
  std::optional<RunProgress> resume();

 private:
  std::string choose();  // rank 0: the folder to resume from, empty for none
  RunProgress load(const std::string& path);

  const RunConfig& config_;
  Session& session_;
  Learner& learner_;
  core::CheckpointStore store_;
};

}  // namespace muonp::launch
