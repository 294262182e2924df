#include "core/checkpoint_store.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <stdio.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <system_error>

#include "core/error.h"

namespace muonp::core {
namespace {

constexpr std::string_view kPrefix = "step-", kPartial = ".partial", kReplaced = ".replaced";

std::string directory_of(const std::string& store, std::int64_t step) {
  return fmt::format("{}/{}{:08}", store, kPrefix, step);
}
std::string partial_of(const std::string& store, std::int64_t step) {
  return fmt::format("{}{}", directory_of(store, step), kPartial);
}

// The step of "step-00001200<suffix>", or nothing.
std::optional<std::int64_t> step_of(std::string_view name, std::string_view suffix) {
  if (!name.starts_with(kPrefix) || !name.ends_with(suffix)) return {};
  const std::string_view digits = name.substr(kPrefix.size(), name.size() - kPrefix.size() - suffix.size());
  std::int64_t step = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (digits.size() < 8 || code != std::errc() || end != digits.data() + digits.size() || step < 0) return {};
  return step;
}

// Renames `from` to `to`, which may be a complete checkpoint; at every moment one of the two can be found.
void publish(const std::string& from, const std::string& to) {
  if (!exists(to)) return rename_path(from, to);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    sync_directory(parent_directory(to));
    return remove_tree(from);
  }
  // Not every file system can swap two names: the old one steps aside, under a name that clean() puts back.
  const std::string aside = to + std::string(kReplaced);
  remove_tree(aside);
  rename_path(to, aside);
  rename_path(from, to);
  remove_tree(aside);
}

}  // namespace

CheckpointPart::CheckpointPart(const std::string& store_directory, std::int64_t step)
    : directory_(partial_of(store_directory, step)) {
  if (!is_directory(directory_))
    fail(
        "{} is not there: rank 0 has not begun this checkpoint, or this rank's host does not share the "
        "folder {}",
        directory_, store_directory);
}

CheckpointEntry CheckpointPart::add_file(const std::string& name, std::int64_t expected_bytes,
                                         const std::function<void(AtomicFile&)>& write) const {
  MUONP_ASSERT(is_entry_name(name), "checkpoint file name '{}'", name);
  AtomicFile file(directory_ + "/" + name, expected_bytes);
  write(file);
  const FileSummary summary = file.commit();
  return {name, summary.bytes, summary.checksum};
}

CheckpointWriter::CheckpointWriter(std::string store, std::int64_t step)
    : store_(std::move(store)), step_(step) {
  MUONP_ASSERT(step >= 0, "step {}", step);
  make_directories(store_);
  remove_tree(partial_of(store_, step_));
  make_directories(partial_of(store_, step_));
}

CheckpointWriter::CheckpointWriter(CheckpointWriter&& other) noexcept
    : store_(std::move(other.store_)), step_(other.step_), open_(std::exchange(other.open_, false)) {}

CheckpointWriter::~CheckpointWriter() {
  if (!open_) return;
  try {
    remove_tree(partial_of(store_, step_));
  } catch (const Error&) {
    // A destructor must not throw; begin() and clean() remove what is left.
  }
}

void CheckpointWriter::commit(std::span<const CheckpointEntry> entries, const std::string& state_json) {
  MUONP_ASSERT(open_, "the checkpoint of step {} is committed", step_);
  const std::string partial = partial_of(store_, step_);
  std::vector<CheckpointEntry> all(entries.begin(), entries.end());
  std::ranges::sort(all, {}, &CheckpointEntry::name);
  const auto twice = std::ranges::adjacent_find(all, {}, &CheckpointEntry::name);
  MUONP_ASSERT(twice == all.end(), "two ranks wrote {}", twice->name);
  for (const CheckpointEntry& e : all) {
    const std::int64_t bytes = file_size(partial + "/" + e.name);
    if (bytes != e.bytes) fail("{}/{} has {} bytes, {} were written", partial, e.name, bytes, e.bytes);
  }
  write_file(partial + "/" + kManifestName, write_manifest({step_, std::move(all), state_json}));
  publish(partial, directory_of(store_, step_));
  open_ = false;
}

Checkpoint::Checkpoint(std::string path, std::size_t first, std::size_t stride) : path_(std::move(path)) {
  MUONP_ASSERT(stride >= 1, "stride {}", stride);
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  const std::string file_name = path_ + "/" + kManifestName;
  if (!is_directory(path_)) fail("{} is not a checkpoint: there is no such folder", path_);
  if (!exists(file_name)) fail("{} is not a checkpoint: it has no {}", path_, kManifestName);
  manifest_ = read_manifest(read_file(file_name), file_name);
  const auto named = step_of(path_.substr(path_.find_last_of('/') + 1), "");
  if (named && *named != step()) fail("{} is of step {}, its folder of step {}", file_name, step(), *named);
  for (std::size_t i = first; i < entries().size(); i += stride) {
    const CheckpointEntry& e = entries()[i];
    const std::int64_t bytes = file_size(path_ + "/" + e.name);
    if (bytes != e.bytes)
      fail("{}/{} was truncated or altered: it has {} bytes, the manifest says {}", path_, e.name, bytes,
           e.bytes);
  }
}

std::string Checkpoint::file(const std::string& name) const {
  for (const CheckpointEntry& e : entries())
    if (e.name == name) return path_ + "/" + name;
  fail("the checkpoint {} has no file {}", path_, name);
}

void Checkpoint::verify(std::size_t first, std::size_t stride) const {
  MUONP_ASSERT(stride >= 1, "stride {}", stride);
  for (std::size_t i = first; i < entries().size(); i += stride) verify_file(entries()[i]);
}

void Checkpoint::verify_file(const CheckpointEntry& e, const std::function<void(std::int64_t)>& read) const {
  const FileSummary found = summarize_file(path_ + "/" + e.name, read);
  if (found.checksum != e.checksum || found.bytes != e.bytes)
    fail("{}/{} was altered: its XXH3 checksum is {}, the manifest says {}", path_, e.name,
         checksum_text(found.checksum), checksum_text(e.checksum));
}

CheckpointWriter CheckpointStore::begin(std::int64_t step) const { return {directory_, step}; }

std::string CheckpointStore::path_of(std::int64_t step) const { return directory_of(directory_, step); }

std::vector<std::int64_t> CheckpointStore::steps() const {
  std::vector<std::int64_t> result;
  if (!exists(directory_)) return result;
  for (const std::string& name : list_directory(directory_))
    if (const auto step = step_of(name, "")) result.push_back(*step);
  std::sort(result.begin(), result.end());
  return result;
}

std::optional<Checkpoint> CheckpointStore::latest(
    const std::function<void(const std::string&)>& refused) const {
  std::vector<std::int64_t> all = steps();
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    try {
      return open(*step);
    } catch (const Error& error) {
      if (refused) refused(error.what());
    }
  }
  return {};
}

namespace {

Checkpoint verified(Checkpoint checkpoint) {
  checkpoint.verify();
  return checkpoint;
}

}  // namespace

std::string CheckpointStore::existing(std::int64_t step) const {
  if (exists(path_of(step))) return path_of(step);
  const std::vector<std::int64_t> all = steps();
  fail("there is no checkpoint of step {} in {}; it has {}", step, directory_,
       all.empty() ? "none" : fmt::format("steps {}", fmt::join(all, ", ")));
}

std::string CheckpointStore::path_of(const std::string& step_or_path) const {
  std::int64_t step = 0;
  const char* end = step_or_path.data() + step_or_path.size();
  const auto [stop, code] = std::from_chars(step_or_path.data(), end, step);
  return code == std::errc() && stop == end && step >= 0 ? existing(step) : step_or_path;
}

Checkpoint CheckpointStore::open(std::int64_t step) const { return verified(Checkpoint(existing(step))); }

Checkpoint CheckpointStore::open(const std::string& step_or_path) const {
  return verified(Checkpoint(path_of(step_or_path)));
}

Checkpoint CheckpointStore::find(const std::string& step_or_path) const {
  return Checkpoint(path_of(step_or_path), std::numeric_limits<std::size_t>::max());
}

void CheckpointStore::keep_last(std::int64_t keep) const {
  MUONP_ASSERT(keep >= 1, "keep {}", keep);
  std::vector<std::int64_t> all = steps();
  while (static_cast<std::int64_t>(all.size()) > keep) {
    // Out of the complete ones first, so that a deletion cut short leaves nothing that looks complete.
    const std::string partial = partial_of(directory_, all.front());
    remove_tree(partial);
    rename_path(path_of(all.front()), partial);
    remove_tree(partial);
    all.erase(all.begin());
  }
}

void CheckpointStore::clean() const {
  if (!exists(directory_)) return;
  for (const std::string& name : list_directory(directory_)) {
    const std::string path = directory_ + "/" + name;
    if (step_of(name, kPartial)) remove_tree(path);
    if (const auto step = step_of(name, kReplaced)) {
      if (exists(path_of(*step)))
        remove_tree(path);
      else
        rename_path(path, path_of(*step));
    }
  }
}

}  // namespace muonp::core
