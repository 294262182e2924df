// Examples as they were encoded, in one file that every rank maps.
//
//   bytes 0–7     "muonpex1"
//   8–127         ExampleCounts, int64 each in the order of the struct, then the hash of the marked ids; zeros
//   128–          int32 marked ids (core/data/finetuning/example_encoder.h), one example after the other; an even number,
//   the
//                 last one a filler where needed
//   then          int64 ends of the examples among the ids, and int32 counted targets of each
// All little-endian.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/data/finetuning/example_encoder.h"
#include "core/files/files.h"
#include "core/files/mapped_file.h"

namespace muonp::core {

struct ExampleCounts {
  std::int64_t examples = 0, tokens = 0, counted = 0;  // in the file
  std::int64_t longest = 0;                            // example, in tokens
  std::int64_t largest_id = 0;
  std::int64_t truncated = 0;  // of the examples in the file
  // Not in it: too long (data.too_long: drop); a prompt that fills a sequence, so that nothing is left to learn; broken
  // lines.
  std::int64_t dropped = 0, without_target = 0, broken = 0;
  std::int64_t with_tools = 0;  // of the examples read, those whose tools are ignored
};

class ExampleFileWriter {
 public:
  explicit ExampleFileWriter(const std::string& path);
  void write(const MarkedIds& example);
  // What else is counted beside what was written.
  void commit(ExampleCounts others);
  std::int64_t examples() const { return std::ssize(ends_); }

 private:
  AtomicFile file_;
  std::vector<std::int64_t> ends_;
  std::vector<std::int32_t> counted_;
  std::int64_t longest_ = 0, largest_id_ = 0;
  std::uint64_t hash_ = 0;
};

// Cheap to copy.
class ExampleStore {
 public:
  ExampleStore() = default;  // no examples
  // Error: none, or truncated or altered.
  explicit ExampleStore(const std::string& path);

  std::int64_t size() const { return counts_.examples; }
  const ExampleCounts& counts() const { return counts_; }
  const std::string& path() const { return file_->path(); }
  std::uint64_t hash() const { return hash_; }  // of all marked ids and of where examples end
  std::int64_t tokens(std::int64_t example) const { return end(example) - end(example - 1); }
  std::int64_t counted(std::int64_t example) const;  // targets
  // Its marked ids. Error if the file cannot be read any more.
  void read(std::int64_t example, std::vector<std::int32_t>& ids) const;

 private:
  std::int64_t end(std::int64_t example) const;
  void check() const;
  std::shared_ptr<const MappedFile> file_;
  ExampleCounts counts_;
  std::uint64_t hash_ = 0;
  const char *ids_ = nullptr, *ends_ = nullptr, *counted_ = nullptr;
};

}  // namespace muonp::core
