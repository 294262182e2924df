// manifest.json: what a checkpoint consists of (docs/checkpoints.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muonp::core {

struct CheckpointEntry {
  std::string name;  // of the file, without a folder
  std::int64_t bytes = 0;
  std::uint64_t checksum = 0;  // XXH3 of the content, seed 0
  bool operator==(const CheckpointEntry&) const = default;
};

struct CheckpointManifest {
  std::int64_t step = 0;
  std::vector<CheckpointEntry> entries;  // sorted by name
  std::string state_json;                // the trainer's own state, any JSON
  std::int64_t written = 0;              // microseconds since 1970, later than any other of its folder; 0: it does not say
  std::string checksum = {};             // the manifest's own, as read; tells checkpoints of one step apart
};

inline constexpr const char* kManifestName = "manifest.json";

// Whether `name` may be that of a checkpoint's file: no folder, no dot in front, nothing but printable ASCII.
bool is_entry_name(const std::string& name);

// Sixteen hexadecimal digits.
std::string checksum_text(std::uint64_t checksum);

// The file's text, with its own checksum in it. Sorts the entries.
std::string write_manifest(CheckpointManifest manifest);
// Error that names `file`, and what in it cannot be or does not agree with its checksum.
CheckpointManifest read_manifest(const std::string& text, const std::string& file);

}  // namespace muonp::core
