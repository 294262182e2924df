// Lines of descent in a run's folder. `checkpoint.resume: <step or folder>` names the start of a branch. Whatever is
// written from there on records the start, so that the same command, given again (a queued job, a supervisor), goes on
// from the branch's own newest checkpoint and not from its start, also when the start lies in another run's folder or has
// been deleted since.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/files/checkpoint_store.h"

namespace muonp::launch {

// A checkpoint that checkpoint.resume named.
struct BranchStart {
  std::int64_t step = 0;
  std::string manifest;  // its checksum
  std::string named;     // checkpoint.resume, as the user wrote it
  bool operator==(const BranchStart&) const = default;
};

// The starts that a checkpoint descends from, the oldest first; part of its state under kStartsKey. None of a run that
// was never branched, and of programs that did not record them.
inline constexpr const char* kStartsKey = "starts";
std::vector<BranchStart> starts_of(const core::Checkpoint& checkpoint);
nlohmann::json to_json(const std::vector<BranchStart>& starts);

// Where a run goes on.
struct Descent {
  std::string path = {};                  // the checkpoint's folder; empty: from the beginning
  std::vector<BranchStart> starts = {};   // what the checkpoints that it writes record
  std::vector<std::int64_t> others = {};  // steps of another line, to be set aside before it writes any
  bool elsewhere = false;                 // the start lies in another folder
};

// Checkpoints that were found not to hold, by folder: each is named once, and passed over from then on.
class DamagedCheckpoints {
 public:
  explicit DamagedCheckpoints(const core::Log& log) : log_(log) {}
  void add(const std::string& path, const std::string& why);
  const std::string* find(const std::string& path) const;  // why; null if none is known
  std::string text() const;                                // all reasons, a line each

 private:
  const core::Log& log_;
  std::map<std::string, std::string> why_;
};

class LinesOfDescent {
 public:
  // Of the run in the folder `run`, whose checkpoints are in `store`. Rank 0, under the run's lock. Only manifests are read:
  // whoever finds that the files of the one chosen do not hold adds it to `damaged` and asks again.
  LinesOfDescent(std::string run, const core::CheckpointStore& store, const core::Log& log, DamagedCheckpoints& damaged)
      : run_(std::move(run)), store_(store), log_(log), damaged_(damaged) {}

  // The line that was written last, from its newest checkpoint that is intact; a damaged one is named. Nothing if there
  // is none; Error if there are some, none of them intact.
  Descent newest() const;
  // The branch whose start is `named`: its own newest intact checkpoint, or the start while it has none. Error, with the
  // choices, if the folder holds checkpoints of another line that the branch would mix with: newer ones than its start,
  // any if the start lies in another folder; unless `may_set_aside`, where they are the Descent's others.
  Descent branch(const std::string& named, bool may_set_aside) const;
  // Moves the others, whole, to a run's folder of their own, <run>/aside-N, with the metrics and settings of their line.
  void set_aside(const Descent& descent) const;

 private:
  struct Branch;
  Branch find(const std::string& named) const;
  std::optional<core::Checkpoint> found(const std::string& path) const;                         // nothing if it is damaged
  std::optional<core::Checkpoint> newest_intact(const std::vector<std::int64_t>& steps) const;  // in the order of writing
  [[noreturn]] void refuse(const Branch& branch, const std::vector<std::int64_t>& others) const;

  std::string run_;
  const core::CheckpointStore& store_;
  const core::Log& log_;
  DamagedCheckpoints& damaged_;
};

// The folders of lines that were set aside in a run's folder, in order.
std::vector<std::string> set_aside_in(const std::string& run);

}  // namespace muonp::launch
