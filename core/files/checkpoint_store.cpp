#include "core/files/checkpoint_store.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <stdio.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <limits>
#include <system_error>

#include "core/base/error.h"

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

// A whole text that is a step's number.
std::optional<std::int64_t> number_in(const std::string& text) {
  std::int64_t step = 0;
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, step);
  if (code != std::errc() || stop != end || step < 0) return {};
  return step;
}

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

std::vector<std::int64_t> steps_in(const std::string& store) {
  std::vector<std::int64_t> result;
  if (!exists(store)) return result;
  for (const std::string& name : list_directory(store))
    if (const auto step = step_of(name, "")) result.push_back(*step);
  std::sort(result.begin(), result.end());
  return result;
}

// When a store's checkpoints were written, with their steps; ascending. CheckpointStore::by_age() has the rules.
std::vector<std::pair<std::int64_t, std::int64_t>> ages_in(const std::string& store) {
  std::vector<std::pair<std::int64_t, std::int64_t>> ages;
  std::int64_t written = 0;
  for (const std::int64_t step : steps_in(store)) {
    const std::string file = directory_of(store, step) + "/" + kManifestName;
    try {
      written = read_manifest(read_file(file), file).written;
    } catch (const Error&) {
      // What is wrong is said by who opens it.
    }
    ages.emplace_back(written, step);
  }
  std::sort(ages.begin(), ages.end());
  return ages;
}

// Later than all that the store has, also where the clock was set back.
std::int64_t written_now(const std::string& store) {
  using std::chrono::microseconds, std::chrono::system_clock;
  const auto now = std::chrono::duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
  const auto ages = ages_in(store);
  return std::max<std::int64_t>(now, ages.empty() ? 0 : ages.back().first + 1);
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

CheckpointWriter::CheckpointWriter(std::string store, std::int64_t step) : store_(std::move(store)), step_(step) {
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
  write_file(partial + "/" + kManifestName, write_manifest({step_, std::move(all), state_json, written_now(store_)}));
  publish(partial, directory_of(store_, step_));
  open_ = false;
}

Checkpoint::Checkpoint(std::string path, std::size_t first, std::size_t stride) : path_(without_slashes(std::move(path))) {
  MUONP_ASSERT(stride >= 1, "stride {}", stride);
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
      fail("{}/{} was truncated or altered: it has {} bytes, the manifest says {}", path_, e.name, bytes, e.bytes);
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
    fail("{}/{} was altered: its XXH3 checksum is {}, the manifest says {}", path_, e.name, checksum_text(found.checksum),
         checksum_text(e.checksum));
}

CheckpointWriter CheckpointStore::begin(std::int64_t step) const { return {directory_, step}; }

std::string CheckpointStore::path_of(std::int64_t step) const { return directory_of(directory_, step); }

std::vector<std::int64_t> CheckpointStore::steps() const { return steps_in(directory_); }

std::vector<std::int64_t> CheckpointStore::by_age() const {
  std::vector<std::int64_t> result;
  for (const auto& [written, step] : ages_in(directory_)) result.push_back(step);
  return result;
}

std::optional<Checkpoint> CheckpointStore::latest(const std::function<void(const std::string&)>& refused) const {
  const std::vector<std::int64_t> all = by_age();
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

std::string CheckpointStore::existing(const std::string& step_or_path) const {
  const auto step = number_in(step_or_path);
  if (!step || exists(path_of(*step))) return path_named(step_or_path);
  const std::vector<std::int64_t> all = steps();
  fail("there is no checkpoint of step {} in {}; it has {}", *step, directory_,
       all.empty() ? "none" : fmt::format("steps {}", fmt::join(all, ", ")));
}

Checkpoint CheckpointStore::open(std::int64_t step) const { return open(std::to_string(step)); }

Checkpoint CheckpointStore::open(const std::string& step_or_path) const {
  return verified(Checkpoint(existing(step_or_path)));
}

Checkpoint CheckpointStore::find(const std::string& step_or_path) const {
  return Checkpoint(existing(step_or_path), std::numeric_limits<std::size_t>::max());
}

std::string CheckpointStore::path_named(const std::string& step_or_path) const {
  if (const auto step = number_in(step_or_path)) return path_of(*step);
  return without_slashes(step_or_path);
}

void CheckpointStore::keep_last(std::int64_t keep) const {
  MUONP_ASSERT(keep >= 1, "keep {}", keep);
  std::vector<std::int64_t> all = by_age();
  while (std::ssize(all) > keep) {
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
