// Checkpoints of a run: <directory>/step-00001200/ holds the files that the ranks wrote and manifest.json,
// which names them with their sizes and checksums and carries the trainer's own state. A checkpoint appears
// under its name in one rename, after everything in it is on disk; until then it is step-00001200.partial.
// docs/checkpoints.md describes the format.
//
//   every rank                                   rank 0
//                                                CheckpointStore store(directory); auto writer =
//                                                store.begin(step);
//   ------------------------------------- barrier -------------------------------------
//   CheckpointPart part(directory, step);
//   entries += part.add_file(name, ...)
//   ------------------------------------- gather entries ------------------------------
//                                                writer.commit(entries, state); store.keep_last(k);
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/files/checkpoint_manifest.h"
#include "core/files/files.h"

namespace muonp::core {

// One rank's hand in a checkpoint that rank 0 has begun. Files of different ranks need different names.
class CheckpointPart {
 public:
  CheckpointPart(const std::string& store_directory, std::int64_t step);
  // `write` fills the file; size and checksum are taken while it does. expected_bytes as in AtomicFile.
  CheckpointEntry add_file(const std::string& name, std::int64_t expected_bytes,
                           const std::function<void(AtomicFile&)>& write) const;

 private:
  std::string directory_;
};

// Rank 0's side of writing. Destroyed without commit(), it removes the partial checkpoint (if that fails too,
// the next begin() or clean() does).
class CheckpointWriter {
 public:
  ~CheckpointWriter();
  CheckpointWriter(CheckpointWriter&& other) noexcept;
  CheckpointWriter& operator=(CheckpointWriter&&) = delete;

  // `entries`: all files of all ranks. `state_json`: any JSON value. Checks that the files are there with
  // these sizes, writes the manifest and renames. A complete checkpoint of the same step is replaced.
  void commit(std::span<const CheckpointEntry> entries, const std::string& state_json);

 private:
  friend class CheckpointStore;
  CheckpointWriter(std::string store, std::int64_t step);
  std::string store_;
  std::int64_t step_ = 0;
  bool open_ = true;
};

// A complete checkpoint, read from its manifest.
class Checkpoint {
 public:
  // Reads the manifest of the folder `path` and checks it against its own checksum, that a folder with a step's
  // name is of that step, and that each file has its size; of files first, first + stride, ... where ranks share that. The
  // files' checksums are checked by verify(). Error names the file and what differs.
  explicit Checkpoint(std::string path, std::size_t first = 0, std::size_t stride = 1);

  std::int64_t step() const { return manifest_.step; }
  std::int64_t written() const { return manifest_.written; }          // microseconds since 1970; 0: it does not say
  const std::string& checksum() const { return manifest_.checksum; }  // the manifest's own
  const std::string& path() const { return path_; }
  const std::vector<CheckpointEntry>& entries() const { return manifest_.entries; }  // sorted by name
  const std::string& state_json() const { return manifest_.state_json; }
  std::string file(const std::string& name) const;  // path of a file that the manifest names; Error if it does not

  // Compares the checksums of files first, first + stride, ...: verify() checks all, verify(rank, world_size)
  // shares the reading out.
  void verify(std::size_t first = 0, std::size_t stride = 1) const;
  // Of one file; `read` gets the bytes read so far now and then.
  void verify_file(const CheckpointEntry& entry, const std::function<void(std::int64_t)>& read = {}) const;

 private:
  std::string path_;
  CheckpointManifest manifest_;
};

class CheckpointStore {
 public:
  // The folder need not exist before the first begin().
  explicit CheckpointStore(std::string directory) : directory_(std::move(directory)) {}

  // Makes an empty partial checkpoint; leftovers of the same step are removed. Rank 0.
  CheckpointWriter begin(std::int64_t step) const;
  // Steps that have a complete checkpoint by name, ascending. Nothing is verified.
  std::vector<std::int64_t> steps() const;
  // The same in the order in which they were written, the oldest first. Those whose manifest does not say when (of older
  // programs) come first, by their step; one that cannot be read comes after the one of the step before it.
  std::vector<std::int64_t> by_age() const;
  // The checkpoint written last whose manifest, sizes and checksums hold, if any. What was wrong with newer ones is
  // handed to `refused`, one message each.
  std::optional<Checkpoint> latest(const std::function<void(const std::string&)>& refused = {}) const;
  // A step of this store, verified. Error lists the steps there are.
  Checkpoint open(std::int64_t step) const;
  // What a user names: a step number of this store, or the path of a checkpoint folder. Verified.
  Checkpoint open(const std::string& step_or_path) const;
  // The same, whose files are neither verified nor looked at.
  Checkpoint find(const std::string& step_or_path) const;

  // The folder that this names, whether or not it is there.
  std::string path_named(const std::string& step_or_path) const;

  // Deletes the complete checkpoints that were written first until `keep` are left (keep ≥ 1). Rank 0, after a commit.
  void keep_last(std::int64_t keep) const;
  // Removes what dead runs left half written or half deleted. Rank 0, while nobody writes here.
  void clean() const;

  const std::string& directory() const { return directory_; }
  std::string path_of(std::int64_t step) const;

 private:
  std::string existing(const std::string& step_or_path) const;  // path_named(); Error lists the steps there are
  std::string directory_;
};

}  // namespace muonp::core
