#include "core/files/npy.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>

#include "core/base/error.h"
#include "core/base/units.h"
#include "core/files/files.h"
#include "core/files/npy_elements.h"

namespace muonp::core {
namespace {

static_assert(std::endian::native == std::endian::little, ".npy values are copied as they lie in the file");

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::int64_t kLongestHeader = 1 << 20;

struct Header {
  std::string type;  // "<f4"
  bool fortran = false;
  Shape shape;
};

// Reads the Python dictionary literal of the header: {'descr': '<f4', 'fortran_order': False, 'shape': (3,
// 4), }
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  Header parse() {
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr") {
        header_.type = peek() == '\'' || peek() == '"' ? quoted() : "a structured type";
        if (header_.type == "a structured type") return header_;
      } else if (key == "fortran_order") {
        header_.fortran = boolean();
        has_order_ = true;
      } else if (key == "shape") {
        header_.shape = tuple();
        has_shape_ = true;
      } else {
        malformed();
      }
      if (!accept(',') && peek() != '}') malformed();
    }
    if (header_.type.empty() || !has_order_ || !has_shape_) malformed();
    return header_;
  }

 private:
  [[noreturn]] void malformed() const {
    fail("{}: the .npy header is malformed near character {}: {}", path_, at_,
         text_.substr(0, std::min<std::size_t>(text_.size(), 100)));
  }
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) malformed();
  }
  bool accept_word(std::string_view word) {
    peek();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  std::string quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') malformed();
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) malformed();
    const std::string word(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return word;
  }
  bool boolean() {
    if (accept_word("True")) return true;
    if (!accept_word("False")) malformed();
    return false;
  }
  Shape tuple() {
    Shape shape;
    expect('(');
    while (!accept(')')) {
      shape.push_back(dimension());
      if (!accept(',') && peek() != ')') malformed();
    }
    return shape;
  }
  std::int64_t dimension() {
    std::int64_t value = 0;
    int digits = 0;
    for (peek(); at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (++digits > 18) malformed();
      value = value * 10 + (text_[at_] - '0');
    }
    if (digits == 0) malformed();
    return value;
  }

  std::string_view text_;
  const std::string& path_;
  std::size_t at_ = 0;
  Header header_;
  bool has_order_ = false, has_shape_ = false;
};

class File {
 public:
  explicit File(const std::string& path) : path_(path), size_(file_size(path)), stream_(path, std::ios::binary) {
    if (!stream_) fail("{}: cannot be opened: {}", path, std::strerror(errno));
  }
  std::int64_t left() const { return size_ - at_; }

  void read(void* to, std::int64_t bytes) {
    if (bytes > left()) fail("{}: the file is truncated: it has {} bytes", path_, size_);
    stream_.read(static_cast<char*>(to), bytes);
    if (stream_.gcount() != bytes) fail("{}: cannot be read: {}", path_, std::strerror(errno));
    at_ += bytes;
  }

 private:
  const std::string& path_;
  std::int64_t size_, at_ = 0;
  std::ifstream stream_;
};

std::string read_header(File& file, const std::string& path) {
  char magic[8] = {};
  if (file.left() == 0) fail("{}: the file is empty", path);
  file.read(magic, std::min<std::int64_t>(file.left(), sizeof(magic)));
  if (std::string_view(magic, kMagic.size()) != kMagic)
    fail("{}: not a .npy file (it does not begin with \\x93NUMPY)", path);
  const int version = static_cast<unsigned char>(magic[6]);
  if (version < 1 || version > 3) fail("{}: .npy format version {}; versions 1, 2 and 3 are understood", path, version);
  unsigned char size[4] = {};
  file.read(size, version == 1 ? 2 : 4);
  std::int64_t length = 0;
  for (int i = 3; i >= 0; --i) length = length * 256 + size[i];
  if (length > kLongestHeader) fail("{}: the .npy header claims {} bytes, which cannot be", path, length);
  std::string header(static_cast<std::size_t>(length), '\0');
  file.read(header.data(), length);
  return header;
}

void require_matrix(const Header& header, const std::string& path) {
  if (header.shape.size() < 2 || header.shape.size() > 3)
    fail("{}: the shape is {}; a matrix [rows, cols] or a batch [batch, rows, cols] is needed", path,
         to_string(header.shape));
  for (const std::int64_t dimension : header.shape)
    if (dimension == 0) fail("{}: the shape is {}; an empty array has no matrix", path, to_string(header.shape));
}

// Elements of the array, or nothing where more than any file holds.
std::optional<std::int64_t> possible_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t dimension : shape)
    if (__builtin_mul_overflow(count, dimension, &count)) return std::nullopt;
  return count <= INT64_MAX / 8 ? std::optional(count) : std::nullopt;
}

void convert(File& file, NpyElements& elements, std::vector<float>& values) {
  constexpr std::int64_t kBlock = 1 << 20;
  std::vector<char> block;
  while (file.left() > 0) {
    block.resize(static_cast<std::size_t>(std::min(file.left(), kBlock)));
    file.read(block.data(), std::ssize(block));
    elements.convert(block, values);
  }
  elements.finish();
}

}  // namespace

NpyArray read_npy(const std::string& path) {
  File file(path);
  const Header header = HeaderParser(read_header(file, path), path).parse();
  const std::int64_t bytes = npy_element_bytes(header.type, path);
  require_matrix(header, path);
  const std::optional<std::int64_t> count = possible_count(header.shape);
  if (!count || *count * bytes > file.left())
    fail("{}: the file is truncated: shape {} needs more than the {} bytes of values it has", path, to_string(header.shape),
         file.left());
  if (*count * bytes < file.left())
    fail("{}: {} bytes follow the values of shape {}; the file is damaged", path, file.left() - *count * bytes,
         to_string(header.shape));
  NpyElements elements(header.type, header.fortran, header.shape, path);
  NpyArray array{header.shape, std::vector<float>(static_cast<std::size_t>(*count)), elements.original()};
  if (elements.original().empty())
    file.read(array.values.data(), *count * 4);
  else
    convert(file, elements, array.values);
  return array;
}

void require_finite(const NpyArray& array, const std::string& path) {
  for (std::size_t i = 0; i < array.values.size(); ++i) {
    if (std::isfinite(array.values[i])) continue;
    Shape index(array.shape.size());
    auto rest = static_cast<std::int64_t>(i);
    for (std::size_t d = index.size(); d-- > 0; rest /= array.shape[d]) index[d] = rest % array.shape[d];
    fail("{}: entry {} is {}; every entry must be finite", path, to_string(index), plain_nan(array.values[i]));
  }
}

namespace {

// Of version 1; what follows begins at a step of 64 bytes. `least`: bytes that it takes at least.
std::string npy_header(const std::string& type, const std::string& shape, std::size_t least = 0) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", type, shape);
  const std::size_t prefix = kMagic.size() + 4;
  if (prefix + header.size() + 1 < least) header.append(least - (prefix + header.size() + 1), ' ');
  header.append((64 - (prefix + header.size() + 1) % 64) % 64, ' ').push_back('\n');
  std::string start(kMagic);
  start += {'\x01', '\x00', static_cast<char>(header.size() % 256), static_cast<char>(header.size() / 256)};
  return start.append(header);
}

std::string ids_header(std::int64_t count) {
  return npy_header("<i4", fmt::format("{},", count), 128);  // as long for every count
}

}  // namespace

void write_npy(const std::string& path, const NpyArray& array) {
  MUONP_ASSERT(element_count(array.shape) == std::ssize(array.values), "shape {}, {} values", to_string(array.shape),
               array.values.size());
  std::string shape;
  for (const std::int64_t dimension : array.shape) shape += fmt::format("{}, ", dimension);
  if (array.shape.size() > 1) shape.resize(shape.size() - 2);
  const std::string header = npy_header("<f4", shape);
  const auto bytes = static_cast<std::int64_t>(array.values.size() * sizeof(float));
  AtomicFile file(path, bytes + std::ssize(header));
  file.write(header);
  file.write(array.values.data(), bytes);
  file.commit();
}

NpyIds::NpyIds(const std::string& path) : file_(path) { file_.write(ids_header(0)); }

void NpyIds::write(std::span<const std::int32_t> ids) {
  file_.write(ids.data(), std::ssize(ids) * 4);
  count_ += std::ssize(ids);
}

void NpyIds::commit() {
  const std::string header = ids_header(count_);
  file_.patch(0, header.data(), std::ssize(header));
  file_.commit();
}

}  // namespace muonp::core
