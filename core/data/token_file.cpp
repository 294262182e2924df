#include "core/data/token_file.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/data/file_format.h"

namespace muonp::core {
namespace {

constexpr std::int64_t kHeaderWords = 256, kHeaderBytes = kHeaderWords * 4;
constexpr std::int32_t kMagic16 = 20240520, kVersion16 = 1;
constexpr std::int32_t kMagic32 = 20240801, kVersion32 = 7;
constexpr std::int64_t kLookedAt = 1 << 16;  // bytes of a file without header
constexpr std::int32_t kMagicEvaluation = 20240522;
using Header = std::array<std::int32_t, kHeaderWords>;

// Calls f with ids [first, first + count) of width-byte ids at `data`.
template <class F>
void each_id(const char* data, int width, std::int64_t first, std::int64_t count, const F& f) {
  const auto run = [&]<class T>(T) {
    for (std::int64_t i = 0; i < count; ++i) {
      T id;
      std::memcpy(&id, data + (first + i) * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
      f(i, id);
    }
  };
  if (width == 1) run(std::uint8_t{});
  if (width == 2) run(std::uint16_t{});
  if (width == 4) run(std::uint32_t{});
}

}  // namespace

TokenFormat parse_token_format(std::string_view name) {
  if (name == "nanogpt") return TokenFormat::nanogpt;
  if (name == "llmc") return TokenFormat::llmc;
  fail("'{}' is no token file format; valid are nanogpt and llmc", name);
}

TokenFileWriter::TokenFileWriter(const std::string& path, TokenFormat format, std::int64_t vocabulary)
    : file_(path), format_(format), vocabulary_(vocabulary), wide_(vocabulary > 65536) {
  if (wide_ && format == TokenFormat::nanogpt)
    fail("the nanogpt format has 16-bit ids, so that a vocabulary of {} does not fit; llmc holds it", vocabulary);
  if (format_ == TokenFormat::llmc) file_.write(Header{}.data(), kHeaderBytes);
}

void TokenFileWriter::write(std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids) MUONP_ASSERT(id >= 0 && id < vocabulary_, "id {} of {}", id, vocabulary_);
  if (wide_) {
    file_.write(ids.data(), static_cast<std::int64_t>(ids.size_bytes()));
  } else {
    std::vector<std::uint16_t> narrow(ids.size());
    std::transform(ids.begin(), ids.end(), narrow.begin(), [](std::int32_t id) { return static_cast<std::uint16_t>(id); });
    file_.write(narrow.data(), static_cast<std::int64_t>(narrow.size() * sizeof(narrow[0])));
  }
  count_ += std::ssize(ids);
}

void TokenFileWriter::commit() {
  if (format_ == TokenFormat::llmc) {
    // The count is one word in llm.c; the next word, zero there, holds its upper half.
    const Header header{wide_ ? kMagic32 : kMagic16, wide_ ? kVersion32 : kVersion16,
                        static_cast<std::int32_t>(count_ & 0xffffffff), static_cast<std::int32_t>(count_ >> 32)};
    file_.patch(0, header.data(), kHeaderBytes);
  }
  file_.commit();
}

TokenSource TokenSource::from_bytes(const std::vector<std::string>& files) {
  TokenSource source;
  for (const std::string& path : files) {
    if (file_size(path) == 0) continue;
    auto file = std::make_shared<const MappedFile>(path);
    const std::int64_t end = source.end_ + file->size();
    source.segments_.push_back({file, file->data(), 1, source.end_, end});
    source.end_ = end;
  }
  return source;
}

TokenSource TokenSource::from_token_files(const std::vector<std::string>& files) {
  TokenSource source;
  for (const std::string& path : files) {
    source.segments_.push_back(open_token_file(path, source.end_));
    source.end_ = source.segments_.back().end;
  }
  return source;
}

TokenSource::Segment TokenSource::open_token_file(const std::string& path, std::int64_t begin) {
  auto file = std::make_shared<const MappedFile>(path);
  std::array<std::int32_t, 4> head{};
  if (file->size() >= kHeaderBytes) std::memcpy(head.data(), file->data(), sizeof(head));
  const auto [magic, version, low, high] = head;
  if (magic == kMagicEvaluation)
    fail("{} is an evaluation file of llm.c (magic {}), which is no sequence of tokens to train on", path, magic);
  if (magic != kMagic16 && magic != kMagic32) {
    if (file->size() % 2 != 0)
      fail("{} is no token file: it has no llm.c header, and its {} bytes are no whole number of 16-bit ids", path,
           file->size());
    const std::string_view start(file->data(), static_cast<std::size_t>(std::min(file->size(), kLookedAt)));
    if (const std::string_view why = suspicion_of_raw_ids(start); !why.empty())
      fail("{} is no token file of 16-bit ids: it has no llm.c header, and {} (docs/data.md has the formats)", path, why);
    return {file, file->data(), 2, begin, begin + file->size() / 2};
  }
  const std::int32_t expected = magic == kMagic16 ? kVersion16 : kVersion32;
  if (version != expected)
    fail("{} has version {} in its llm.c header; with magic {} only {} is known", path, version, magic, expected);
  const int width = magic == kMagic16 ? 2 : 4;
  const auto count = static_cast<std::int64_t>((static_cast<std::uint64_t>(static_cast<std::uint32_t>(high)) << 32) |
                                               static_cast<std::uint32_t>(low));
  const std::int64_t held = (file->size() - kHeaderBytes) / width;
  if (count != held || kHeaderBytes + held * width != file->size())
    fail("{} was truncated or altered: its header says {} ids of {} bytes, it has {} bytes after the header", path, count,
         width, file->size() - kHeaderBytes);
  return {file, file->data() + kHeaderBytes, width, begin, begin + count};
}

void TokenSource::read(std::int64_t first, std::int64_t count, std::int32_t* to) const {
  MUONP_ASSERT(first >= 0 && count >= 0 && first + count <= size(), "[{}, {}) of {} ids", first, first + count, size());
  const std::int64_t stop = begin_ + first + count;
  auto segment = std::upper_bound(segments_.begin(), segments_.end(), begin_ + first,
                                  [](std::int64_t at, const Segment& s) { return at < s.end; });
  for (std::int64_t at = begin_ + first; at < stop; ++segment) {
    const std::int64_t here = std::min(stop, segment->end) - at;
    each_id(segment->data, segment->width, at - segment->begin, here,
            [to](std::int64_t i, auto id) { to[i] = static_cast<std::int32_t>(id); });
    segment->file->require_whole();
    to += here;
    at += here;
  }
}

TokenSource TokenSource::slice(std::int64_t begin, std::int64_t end) const {
  MUONP_ASSERT(begin >= 0 && begin <= end && end <= size(), "[{}, {}) of {} ids", begin, end, size());
  TokenSource part = *this;
  part.begin_ = begin_ + begin;
  part.end_ = begin_ + end;
  return part;
}

std::uint64_t TokenSource::fingerprint() const {
  constexpr std::int64_t kStretch = 4096, kStretches = kFingerprintIds / kStretch;
  const std::int64_t all = size(), whole = (all + kStretch - 1) / kStretch, taken = std::min(whole, kStretches);
  std::uint64_t hash = hash_bytes(&all, sizeof(all));
  std::vector<std::int32_t> ids(kStretch);
  for (std::int64_t i = 0; i < taken; ++i) {
    // Of as many stretches as there are, each; of more, the first, the last and those between at equal distances.
    const std::int64_t first =
        taken == whole
            ? i * kStretch
            : static_cast<std::int64_t>(static_cast<double>(all - kStretch) * static_cast<double>(i) / (kStretches - 1));
    const std::int64_t count = std::min(kStretch, all - first);
    read(first, count, ids.data());
    hash = hash_bytes(ids.data(), count * static_cast<std::int64_t>(sizeof(ids[0])), hash);
  }
  return hash;
}

void TokenSource::check_vocabulary(std::int64_t vocabulary, const std::function<void()>& poll) const {
  constexpr std::int64_t kBlock = 1 << 24;
  for (const Segment& s : segments_) {
    if (vocabulary >= (std::int64_t{1} << (8 * s.width))) continue;
    const std::int64_t first = std::max(begin_, s.begin) - s.begin, last = std::min(end_, s.end) - s.begin;
    std::uint32_t largest = 0;
    for (std::int64_t at = first; at < last; at += kBlock) {
      if (poll) poll();
      each_id(s.data, s.width, at, std::min(kBlock, last - at),
              [&](std::int64_t, auto id) { largest = std::max<std::uint32_t>(largest, id); });
    }
    s.file->require_whole();
    if (largest < vocabulary) continue;
    each_id(s.data, s.width, first, last - first, [&](std::int64_t i, auto id) {
      if (id >= vocabulary)
        fail(
            "{}: id {} at position {} is outside the model's vocabulary of {} (the largest id in the file is "
            "{})",
            s.file->path(), id, first + i, vocabulary, largest);
    });
  }
}

}  // namespace muonp::core
