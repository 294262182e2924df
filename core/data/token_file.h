// Files of token ids, and one sequence of ids made of any number of files. Formats (docs/data.md):
//   nanogpt   uint16 ids, little-endian, nothing else
//   llmc      256 int32 header (magic, version, number of ids, zeros), then the ids: magic 20240520, version
//   1, uint16
//             or magic 20240801, version 7, uint32
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files/files.h"
#include "core/files/mapped_file.h"

namespace muonp::core {

enum class TokenFormat : std::uint8_t { nanogpt, llmc };
TokenFormat parse_token_format(std::string_view name);  // Error lists the valid names

// Writes one token file as a stream. llmc takes 16-bit ids if the vocabulary fits, else 32-bit ones; nanogpt
// refuses a vocabulary above 65536.
class TokenFileWriter {
 public:
  TokenFileWriter(const std::string& path, TokenFormat format, std::int64_t vocabulary);
  void write(std::span<const std::int32_t> ids);
  std::int64_t count() const { return count_; }
  void commit();

 private:
  AtomicFile file_;
  TokenFormat format_;
  std::int64_t vocabulary_;
  bool wide_;
  std::int64_t count_ = 0;
};

// An immutable sequence of ids in memory-mapped files, cheap to copy. Positions count from 0 over all files.
class TokenSource {
 public:
  TokenSource() = default;  // no ids
  // The bytes of the files, one id per byte, one file after the other; empty files are fine.
  static TokenSource from_bytes(const std::vector<std::string>& files);
  // Token files, each of either format. Error: sizes and headers that contradict each other, ids without header that look
  // like text or like ids of more bits.
  static TokenSource from_token_files(const std::vector<std::string>& files);

  std::int64_t size() const { return end_ - begin_; }
  // Copies ids [first, first + count) to `to`. Error if a file was shortened or cannot be read any more.
  void read(std::int64_t first, std::int64_t count, std::int32_t* to) const;
  // Ids [begin, end) as a source of their own.
  TokenSource slice(std::int64_t begin, std::int64_t end) const;

  // Of the number of ids and of the ids themselves, however they are stored. Of more than kFingerprintIds it
  // takes as many, in stretches spread evenly from the first to the last.
  std::uint64_t fingerprint() const;
  static constexpr std::int64_t kFingerprintIds = std::int64_t{1} << 23;

  // Reads all ids. Error names the first that is ≥ vocabulary, with its file and position in that file.
  // `poll`, if any, is called now and then (core/data/dataset.h).
  void check_vocabulary(std::int64_t vocabulary, const std::function<void()>& poll = {}) const;

 private:
  struct Segment {
    std::shared_ptr<const MappedFile> file;
    const char* data;
    int width;                // bytes per id: 1, 2 or 4
    std::int64_t begin, end;  // positions over all files
  };
  static Segment open_token_file(const std::string& path, std::int64_t begin);

  std::vector<Segment> segments_;
  std::int64_t begin_ = 0, end_ = 0;
};

}  // namespace muonp::core
