#include "core/data/finetuning/example_file.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace muonp::core {
namespace {

constexpr std::string_view kMagic = "muonpex1";
struct Header {
  char magic[8] = {};
  ExampleCounts counts;
  std::uint64_t hash = 0;
  char zeros[32] = {};
};
constexpr std::int64_t kHeaderBytes = 128;
static_assert(sizeof(Header) == kHeaderBytes && std::is_trivially_copyable_v<Header>);

std::int64_t padded(std::int64_t ids) { return ids + ids % 2; }

template <class T>
T load(const char* array, std::int64_t i) {
  T value;
  std::memcpy(&value, array + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

}  // namespace

ExampleFileWriter::ExampleFileWriter(const std::string& path) : file_(path) {
  const Header empty;
  file_.write(&empty, kHeaderBytes);
}

void ExampleFileWriter::write(const MarkedIds& example) {
  const auto length = std::ssize(example), bytes = length * 4;
  file_.write(example.data(), bytes);
  hash_ = hash_bytes(example.data(), bytes, hash_ + static_cast<std::uint64_t>(length));
  ends_.push_back((ends_.empty() ? 0 : ends_.back()) + length);
  counted_.push_back(static_cast<std::int32_t>(counted_in(example)));
  longest_ = std::max<std::int64_t>(longest_, length);
  for (const std::int32_t id : example) largest_id_ = std::max<std::int64_t>(largest_id_, id_of_marked(id));
}

void ExampleFileWriter::commit(ExampleCounts others) {
  Header header{.counts = others, .hash = hash_};
  std::ranges::copy(kMagic, header.magic);
  header.counts.examples = examples();
  header.counts.tokens = ends_.empty() ? 0 : ends_.back();
  for (const std::int32_t c : counted_) header.counts.counted += c;
  header.counts.longest = longest_;
  header.counts.largest_id = largest_id_;
  const std::int32_t filler = 0;
  if (header.counts.tokens % 2 != 0) file_.write(&filler, sizeof(filler));
  file_.write(ends_.data(), std::ssize(ends_) * 8);
  file_.write(counted_.data(), std::ssize(counted_) * 4);
  file_.patch(0, &header, kHeaderBytes);
  file_.commit();
}

ExampleStore::ExampleStore(const std::string& path) : file_(std::make_shared<const MappedFile>(path)) {
  Header header;
  if (file_->size() >= kHeaderBytes) std::memcpy(&header, file_->data(), kHeaderBytes);
  if (std::string_view(header.magic, kMagic.size()) != kMagic)
    fail("{} is no file of encoded examples; `muonp train` makes one of a JSONL file (docs/data.md)", path);
  counts_ = header.counts;
  hash_ = header.hash;
  const std::int64_t room = (file_->size() - kHeaderBytes) / 4;
  const bool fits = counts_.tokens >= 0 && counts_.examples >= 0 && counts_.tokens <= room && counts_.examples <= room / 3;
  if (!fits || kHeaderBytes + 4 * padded(counts_.tokens) + 12 * counts_.examples != file_->size())
    fail("{} was truncated or altered: its header says {} examples of {} tokens, which are not its {} bytes", path,
         counts_.examples, counts_.tokens, file_->size());
  ids_ = file_->data() + kHeaderBytes;
  ends_ = ids_ + 4 * padded(counts_.tokens);
  counted_ = ends_ + 8 * counts_.examples;
  check();
}

// Examples one after the other, none of them empty, and the hash that was written.
void ExampleStore::check() const {
  std::uint64_t hash = 0;
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < counts_.examples; ++i) {
    const std::int64_t stop = end(i);
    if (stop <= begin || stop > counts_.tokens) fail("{} was altered: example {} ends where none can", path(), i);
    hash = hash_bytes(ids_ + 4 * begin, 4 * (stop - begin), hash + static_cast<std::uint64_t>(stop - begin));
    begin = stop;
  }
  file_->require_whole();
  if (begin != counts_.tokens || hash != hash_) fail("{} was altered: its examples are not those that were written", path());
}

std::int64_t ExampleStore::end(std::int64_t example) const { return example < 0 ? 0 : load<std::int64_t>(ends_, example); }

std::int64_t ExampleStore::counted(std::int64_t example) const { return load<std::int32_t>(counted_, example); }

void ExampleStore::read(std::int64_t example, std::vector<std::int32_t>& ids) const {
  MUONP_ASSERT(example >= 0 && example < size(), "example {} of {}", example, size());
  const std::int64_t begin = end(example - 1), count = end(example) - begin;
  MUONP_ASSERT(begin >= 0 && count > 0 && begin + count <= counts_.tokens, "example {} at {}", example, begin);
  ids.resize(static_cast<std::size_t>(count));
  std::memcpy(ids.data(), ids_ + 4 * begin, ids.size() * 4);
  file_->require_whole();
}

}  // namespace muonp::core
