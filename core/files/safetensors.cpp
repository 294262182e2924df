#include "core/files/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/files/strict_json.h"

namespace muonp::core {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kAlignment = 8;
constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kLongestHeader = 100'000'000;  // the format's own limit
constexpr const char* kMetadata = "__metadata__";
static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

struct TypeInfo {
  std::string_view name;
  std::int64_t bytes;
};
constexpr std::array<TypeInfo, 15> kTypes{{{"F32", 4},
                                           {"BF16", 2},
                                           {"F16", 2},
                                           {"I32", 4},
                                           {"I64", 8},
                                           {"U64", 8},
                                           {"F64", 8},
                                           {"U32", 4},
                                           {"I16", 2},
                                           {"U16", 2},
                                           {"I8", 1},
                                           {"U8", 1},
                                           {"BOOL", 1},
                                           {"F8_E4M3", 1},
                                           {"F8_E5M2", 1}}};

std::string header_of(const std::vector<TensorSpec>& tensors, const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::int64_t offset = 0;
  for (const TensorSpec& t : tensors) {
    MUONP_ASSERT(t.name != kMetadata && !header.contains(t.name), "tensor name {}", t.name);
    header[t.name] = {{"dtype", name_of(t.type)}, {"shape", t.shape}, {"data_offsets", {offset, offset + t.bytes()}}};
    offset += t.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

// Parses the header; every defect ends in `defect`, which throws.
class HeaderParser {
 public:
  HeaderParser(const std::string& path, std::string_view text, std::int64_t data_bytes)
      : path_(path), data_bytes_(data_bytes) {
    root_ = parse(text);
    if (!root_.is_object()) defect("its header is no JSON object");
  }

  std::map<std::string, std::string> metadata() const {
    std::map<std::string, std::string> result;
    if (!root_.contains(kMetadata)) return result;
    const Json& entries = root_.at(kMetadata);
    if (!entries.is_object()) defect("__metadata__ is no JSON object");
    for (const auto& [key, value] : entries.items()) {
      if (!value.is_string()) defect("__metadata__ entry '{}' is no string", key);
      result[key] = value.get<std::string>();
    }
    return result;
  }

  struct Placed {
    TensorSpec spec;
    std::int64_t begin, end;
  };
  // Sorted by their place.
  std::vector<Placed> tensors() const {
    std::vector<Placed> all;
    for (const auto& [name, value] : root_.items())
      if (name != kMetadata) all.push_back(tensor(name, value));
    std::stable_sort(all.begin(), all.end(),
                     [](const Placed& a, const Placed& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    std::int64_t covered = 0;
    for (const Placed& t : all) {
      if (t.begin != covered)
        defect("tensor '{}' begins at data byte {}, but the tensors before it end at {}", t.spec.name, t.begin, covered);
      covered = t.end;
    }
    if (covered != data_bytes_) defect("its tensors end at data byte {} of {}", covered, data_bytes_);
    return all;
  }

 private:
  template <class... Args>
  [[noreturn]] void defect(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{} is not a valid safetensors file: {}", path_, fmt::format(format, std::forward<Args>(args)...));
  }

  Json parse(std::string_view text) const {
    try {
      return parse_strict_json(text);
    } catch (const Error& error) {
      defect("its header is {}", error.what());
    }
  }

  std::int64_t count(const std::string& tensor, const char* what, const Json& value) const {
    if (!is_count(value)) defect("tensor '{}' has {} {}, which is no count", tensor, what, value.dump(-1, ' ', true));
    return value.get<std::int64_t>();
  }

  Placed tensor(const std::string& name, const Json& value) const {
    for (const char* key : {"dtype", "shape", "data_offsets"})
      if (!value.is_object() || !value.contains(key)) defect("tensor '{}' has no {}", name, key);
    const Json &type = value.at("dtype"), &shape = value.at("shape"), &offsets = value.at("data_offsets");
    Placed placed;
    placed.spec.name = name;
    const auto known =
        std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeInfo& t) { return type.is_string() && type == t.name; });
    if (known == kTypes.end()) defect("tensor '{}' has the unknown dtype {}", name, type.dump(-1, ' ', true));
    placed.spec.type = static_cast<StoredType>(known - kTypes.begin());
    if (!shape.is_array()) defect("tensor '{}' has a shape that is no list", name);
    std::int64_t bytes = known->bytes;
    for (const Json& dimension : shape) {
      placed.spec.shape.push_back(count(name, "the dimension", dimension));
      if (__builtin_mul_overflow(bytes, placed.spec.shape.back(), &bytes))
        defect("tensor '{}' has a shape with more than 2^63 bytes", name);
    }
    if (!offsets.is_array() || offsets.size() != 2) defect("tensor '{}' has data_offsets that are no pair", name);
    placed.begin = count(name, "the offset", offsets[0]);
    placed.end = count(name, "the offset", offsets[1]);
    if (placed.end < placed.begin || placed.end > data_bytes_)
      defect("tensor '{}' lies at [{}, {}) of {} data bytes", name, placed.begin, placed.end, data_bytes_);
    if (placed.end - placed.begin != bytes)
      defect("tensor '{}' has {} bytes, but {} {} needs {}", name, placed.end - placed.begin, known->name,
             to_string(placed.spec.shape), bytes);
    return placed;
  }

  const std::string& path_;
  std::int64_t data_bytes_;
  Json root_;
};

}  // namespace

std::int64_t size_of(StoredType type) { return kTypes[at(type)].bytes; }
std::string_view name_of(StoredType type) { return kTypes[at(type)].name; }

StoredType stored_type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32:
      return StoredType::f32;
    case Dtype::bfloat16:
      return StoredType::bf16;
    case Dtype::float16:
      return StoredType::f16;
    case Dtype::int32:
      return StoredType::i32;
    case Dtype::uint8:
      return StoredType::u8;
    case Dtype::tf32:  // what a product makes of float32, nothing that is kept
      break;
  }
  MUONP_ASSERT(false, "dtype {}", static_cast<int>(dtype));
}

SafetensorsWriter::SafetensorsWriter(AtomicFile& file, const std::vector<TensorSpec>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(file) {
  const std::string header = header_of(tensors, metadata);
  const std::uint64_t length = header.size();
  file_.write(&length, kLengthBytes);
  file_.write(header);
  for (const TensorSpec& t : tensors) remaining_ += t.bytes();
}

void SafetensorsWriter::write(const void* data, std::int64_t bytes) {
  MUONP_ASSERT(bytes >= 0 && bytes <= remaining_, "{} bytes written to {}, {} announced", bytes, file_.path(), remaining_);
  file_.write(data, bytes);
  remaining_ -= bytes;
}

void SafetensorsWriter::finish() const {
  MUONP_ASSERT(remaining_ == 0, "{} bytes of {} are missing", remaining_, file_.path());
}

std::int64_t SafetensorsWriter::file_bytes(const std::vector<TensorSpec>& tensors,
                                           const std::map<std::string, std::string>& metadata) {
  std::int64_t bytes = kLengthBytes + static_cast<std::int64_t>(header_of(tensors, metadata).size());
  for (const TensorSpec& t : tensors) bytes += t.bytes();
  return bytes;
}

SafetensorsReader::SafetensorsReader(const std::string& path) : file_(path) {
  if (file_.size() < kLengthBytes)
    fail("{} is not a valid safetensors file: it has {} bytes, the header length alone takes {}", path, file_.size(),
         kLengthBytes);
  std::uint64_t length = 0;
  std::memcpy(&length, file_.data(), sizeof(length));
  const std::int64_t after_length = file_.size() - kLengthBytes;
  if (length > static_cast<std::uint64_t>(std::min(after_length, kLongestHeader)))
    fail("{} is not a valid safetensors file: its header length is {}, the file has {} bytes", path, length, file_.size());
  const auto header_bytes = static_cast<std::int64_t>(length);
  const char* data = file_.data() + kLengthBytes + header_bytes;
  const HeaderParser header(path, std::string_view(file_.data() + kLengthBytes, length), after_length - header_bytes);
  metadata_ = header.metadata();
  for (HeaderParser::Placed& placed : header.tensors()) {
    index_[placed.spec.name] = entries_.size();
    entries_.push_back({std::move(placed.spec), data + placed.begin});
  }
}

const SafetensorsReader::Entry* SafetensorsReader::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

}  // namespace muonp::core
