// A learner's state in checkpoints: written by all ranks in parallel, opened at any number of ranks.
//
// In the background: save() copies this rank's state to host memory and returns; a thread writes and syncs
// the file while training goes on. Ranks meet in collectives on the training thread only, so the save is
// carried on at later step boundaries by advance(): when every rank's file is written, their entries are
// gathered and rank 0's thread writes the manifest and renames; when that is done too, the save is over.
// finish() waits for all of it.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/files/checkpoint_pieces.h"
#include "core/files/checkpoint_store.h"
#include "launch/program/worker.h"
#include "launch/train/descent.h"
#include "launch/train/learner.h"
#include "launch/train/loss_guard.h"
#include "launch/train/run_identity.h"

namespace muonp::launch {

inline constexpr const char* kStatePrefix = "state";  // of the ranks' files: state-00000.safetensors

// What a run needs beside tensors to go on exactly where it stopped. The sample order, dropout and the
// schedule are functions of (seed, step).
struct RunProgress {
  std::int64_t step = 0;     // steps done
  std::int64_t updates = 0;  // of them, those that were not skipped
  std::int64_t tokens = 0;
  double seconds = 0;
  LossHistory losses = {};
  bool evaluated = true;  // whether what comes behind that step is done; not where the run was stopped before
};

// A save that is over.
struct SaveReport {
  std::int64_t step = 0;
  std::int64_t bytes = 0;      // of all ranks
  double blocked_seconds = 0;  // that this rank's training thread spent in it, all together
  double longest_seconds = 0;  // the longest of these at once
  double total_seconds = 0;    // from save() to its end
};

class Checkpointing {
 public:
  // `on_saved` is called on every rank when a save is over. With checkpoint.background and checkpoint.every
  // the memory of the copy is taken here (ExecutionPlan::snapshot_bytes). `before_save` is called on rank 0 before a save
  // touches the folder; what it throws ends the save.
  Checkpointing(const RunConfig& config, Session& session, Learner& learner,
                std::function<void(const SaveReport&)> on_saved = {}, std::function<void()> before_save = {});
  ~Checkpointing();

  // Collective, and so are advance() and finish(). Starts a save; without a copy of the state
  // (checkpoint.background and checkpoint.every) also ends it. One that is still under way is waited for
  // first. An Error (a full disk, say) is thrown on all ranks alike, here or by the calls below, and leaves
  // earlier checkpoints as they are. Once it is complete, those beyond checkpoint.keep are deleted, but not by a run that
  // ends with an error: an earlier state may be the better one.
  enum class Older : std::uint8_t { deleted, kept };
  void save(const RunProgress& progress, Older older = Older::deleted);
  // Carries a save on as far as it goes without waiting. Nothing if none is under way.
  void advance();
  // Waits until the save that is under way, if any, is over.
  void finish();
  // Follows checkpoint.resume (launch/train/descent.h). Collective. Nothing if the run starts from the beginning; Error if
  // it may not: the checkpoint is of another run (launch/train/run_identity.h), none that exists is intact, `none` would
  // overwrite some, or a branch would mix with another line.
  std::optional<RunProgress> resume();

 private:
  struct Save;                                        // one that is under way
  struct Block;                                       // the training thread's stay in one of these calls
  Descent choose(DamagedCheckpoints& damaged) const;  // rank 0
  void verify(const std::string& path);               // all ranks, each a share of the files
  RunProgress load(const std::string& path);
  std::vector<core::TensorPiece> pieces();
  void write(std::vector<core::TensorPiece> pieces);
  void commit();
  void carry_on();
  void end_save();
  void charge();
  std::string state_json(const RunProgress& progress) const;

  const RunConfig& config_;
  Session& session_;
  Learner& learner_;
  std::function<void(const SaveReport&)> on_saved_;
  std::function<void()> before_save_;
  core::CheckpointStore store_;
  RunIdentity identity_;
  std::vector<BranchStart> starts_;  // rank 0: what this run descends from
  core::Tensor snapshot_;            // host memory, used again by every save; none if state is written from where it lies
  std::unique_ptr<Save> save_;
  double charged_ = 0;  // the time up to which blocked_seconds of save_ is counted
  bool said_late_ = false;
  Worker worker_;  // destroyed first: it may be at work on what save_ holds
};

}  // namespace muonp::launch
