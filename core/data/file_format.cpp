#include "core/data/file_format.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "core/base/utf8.h"

namespace muonp::core {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kUnpack = "unpack it first";
constexpr std::string_view kIds = "write its ids as a token file (.bin, docs/data.md), its text as a text file";
constexpr std::string_view kExtract = "write the text in it as a text file";
constexpr std::string_view kLeaveOut = "it has no text to train on; leave it out";
constexpr std::string_view kModel = "it belongs into data.tokenizer; leave it out of the data";
constexpr std::string_view kConvert = "convert it to UTF-8, as iconv does";

struct Mark {
  std::size_t at;
  std::string_view bytes;
  FileFormat format;
};

constexpr Mark kMarks[] = {
    {0, "\x1f\x8b\x08"sv, {"compressed by gzip", kUnpack}},
    {0, "\x28\xb5\x2f\xfd"sv, {"compressed by zstd", kUnpack}},
    {0, "\xfd\x37zXZ\0"sv, {"compressed by xz", kUnpack}},
    {0, "\x04\x22\x4d\x18"sv, {"compressed by lz4", kUnpack}},
    {4, "1AY&SY"sv, {"compressed by bzip2", kUnpack}},
    {0, "7z\xbc\xaf\x27\x1c"sv, {"a 7z archive", kUnpack}},
    {0, "Rar!\x1a\x07"sv, {"a RAR archive", kUnpack}},
    {257, "ustar"sv, {"a tar archive", kUnpack}},
    {0, "PK\x03\x04"sv, {"a zip archive (so are .pt, .npz, .docx and .epub)", kUnpack}},
    {0, "PK\x05\x06"sv, {"an empty zip archive", kLeaveOut}},
    {0, "\x93NUMPY"sv, {"a NumPy array (.npy)", kIds}},
    {0, "\x89HDF\r\n\x1a\n"sv, {"an HDF5 file", kIds}},
    {0, "MATLAB 5.0 MAT-file"sv, {"a MATLAB file", kIds}},
    {0, "PAR1"sv, {"a Parquet table", kIds}},
    {0, "ARROW1\0\0"sv, {"an Arrow file", kIds}},
    {0, "Obj\x01"sv, {"an Avro file", kIds}},
    {0, "SQLite format 3\0"sv, {"an SQLite database", kExtract}},
    {0, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"sv, {"a PyTorch file", kIds}},
    {0, "\x80\x02}q"sv, {"a Python pickle", kIds}},
    {0, "\x80\x03}q"sv, {"a Python pickle", kIds}},
    {0, "\x80\x02]q"sv, {"a Python pickle", kIds}},
    {0, "\x80\x03]q"sv, {"a Python pickle", kIds}},
    {0, "%PDF-"sv, {"a PDF document", kExtract}},
    {0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv, {"a document of an old Office program", kExtract}},
    {0, "\x89PNG\r\n\x1a\n"sv, {"a PNG image", kLeaveOut}},
    {0, "\xff\xd8\xff\xe0"sv, {"a JPEG image", kLeaveOut}},
    {0, "\xff\xd8\xff\xe1"sv, {"a JPEG image", kLeaveOut}},
    {0, "GIF87a"sv, {"a GIF image", kLeaveOut}},
    {0, "GIF89a"sv, {"a GIF image", kLeaveOut}},
    {8, "WEBPVP8"sv, {"a WebP image", kLeaveOut}},
    {8, "WAVEfmt "sv, {"a sound (.wav)", kLeaveOut}},
    {0, "ID3\x03\0"sv, {"a sound (.mp3)", kLeaveOut}},
    {0, "ID3\x04\0"sv, {"a sound (.mp3)", kLeaveOut}},
    {0, "fLaC\0\0\0\x22"sv, {"a sound (.flac)", kLeaveOut}},
    {0, "OggS\0\x02"sv, {"a sound or film (.ogg)", kLeaveOut}},
    {4, "ftypisom"sv, {"a film (.mp4)", kLeaveOut}},
    {4, "ftypmp42"sv, {"a film (.mp4)", kLeaveOut}},
    {0,
     "\x7f"
     "ELF"sv,
     {"a program or library (ELF)", kLeaveOut}},
    {0, "\0asm\x01\0\0\0"sv, {"a program (WebAssembly)", kLeaveOut}},
    {0, "GGUF\x02\0\0\0"sv, {"a model's weights (GGUF)", kLeaveOut}},
    {0, "GGUF\x03\0\0\0"sv, {"a model's weights (GGUF)", kLeaveOut}},
};

constexpr Mark kBesideText[] = {
    {0, "\xff\xfe\0\0"sv, {"text in UTF-32", kConvert}},
    {0, "\0\0\xfe\xff"sv, {"text in UTF-32", kConvert}},
    {0, "\xff\xfe"sv, {"text in UTF-16", kConvert}},
    {0, "\xfe\xff"sv, {"text in UTF-16", kConvert}},
    {0, "\x88\xd8\x34\x01\x01\0\0\0"sv, {"a token file of llm.c", "give it a name that ends in .bin"}},
    {0, "\xa1\xd9\x34\x01\x07\0\0\0"sv, {"a token file of llm.c", "give it a name that ends in .bin"}},
};

std::optional<FileFormat> marked(std::span<const Mark> marks, std::string_view start) {
  for (const Mark& mark : marks)
    if (start.size() >= mark.at && start.substr(mark.at).starts_with(mark.bytes)) return mark.format;
  return std::nullopt;
}

template <class T>
T number_at(std::string_view bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// Its first 8 bytes are the length of the JSON object that follows.
bool is_safetensors(std::string_view start, std::int64_t size) {
  if (start.size() < 16 || start[8] != '{' || (start[9] != '"' && start[9] != '}' && start[9] != ' ')) return false;
  return number_at<std::uint64_t>(start, 0) <= static_cast<std::uint64_t>(size) - 8;
}

// A protobuf message whose first field is a piece with a text and a score.
bool is_tokenizer_model(std::string_view start) {
  if (start.size() < 24 || start[0] != '\n' || start[2] != '\n') return false;
  const auto text = static_cast<unsigned char>(start[3]);
  return text < 16 && start[4u + text] == '\x15';
}

// Schema first: a continuation mark, the length of the metadata, and a flatbuffer.
bool is_arrow_stream(std::string_view start) {
  if (start.size() < 16 || number_at<std::uint32_t>(start, 0) != 0xffffffff) return false;
  const auto length = number_at<std::int32_t>(start, 4);
  return length > 0 && length % 8 == 0 && number_at<std::uint32_t>(start, 8) == 16;
}

// Protocol 4 and later begin with a frame and its length.
bool is_pickle(std::string_view start, std::int64_t size) {
  if (start.size() < 11 || start[0] != '\x80' || (start[1] != 4 && start[1] != 5) || start[2] != '\x95') return false;
  return number_at<std::uint64_t>(start, 3) <= static_cast<std::uint64_t>(size);
}

bool is_text(std::string_view bytes) {
  bytes = bytes.substr(0, utf8_cut(bytes, bytes.size() - 1));  // the last character may be cut off
  while (!bytes.empty()) {
    const std::size_t length = utf8_length(bytes);
    const bool control =
        static_cast<unsigned char>(bytes[0]) < 0x20 && "\t\n\r\f"sv.find(bytes[0]) == std::string_view::npos;
    if (length == 0 || control) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

}  // namespace

std::optional<FileFormat> known_format(std::string_view start, std::int64_t size) {
  if (is_safetensors(start, size)) return FileFormat{"a safetensors file", kLeaveOut};
  if (is_tokenizer_model(start)) return FileFormat{"a tokenizer model", kModel};
  if (is_arrow_stream(start)) return FileFormat{"an Arrow stream", kIds};
  if (is_pickle(start, size)) return FileFormat{"a Python pickle", kIds};
  return marked(kMarks, start);
}

std::optional<FileFormat> known_format_beside_text(std::string_view start, std::int64_t size) {
  if (const auto format = known_format(start, size)) return format;
  return marked(kBesideText, start);
}

// In ids of 32 or 64 bits every second word is 0, or small beside the others where the vocabulary is above 65536; text
// has no byte that text has not. Ids of 16 bits look like neither for long.
std::string_view suspicion_of_raw_ids(std::string_view start) {
  constexpr std::size_t kLeastText = 32, kLeastPairs = 64;
  constexpr std::uint16_t kHighestHalf = 15, kLow = 255;
  if (start.size() >= kLeastText && is_text(start)) return "its bytes are text";
  std::array<std::uint16_t, 4> largest{};
  const std::size_t groups = start.size() / 8;
  for (std::size_t i = 0; i < 4 * groups; ++i)
    largest[i % 4] = std::max(largest[i % 4], number_at<std::uint16_t>(start, 2 * i));
  if (2 * groups < kLeastPairs) return "";
  const std::uint16_t even = std::max(largest[0], largest[2]), odd = std::max(largest[1], largest[3]);
  const bool wide = (odd == 0 && even > 0) || (even == 0 && odd > 0) || (odd <= kHighestHalf && even > kLow);
  if (!wide) return "";
  return largest[2] == 0 && largest[3] == 0 ? "it looks like ids of 64 bits: three of four 16-bit words are zero or small"
                                            : "it looks like ids of 32 bits: every second 16-bit word is zero or small";
}

}  // namespace muonp::core
