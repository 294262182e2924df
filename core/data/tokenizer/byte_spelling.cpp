// GPT-2's alphabet: a byte that Latin-1 prints is its character, the others follow from U+0100 in their order.
#include <array>

#include "core/base/index.h"
#include "core/data/tokenizer/tokenizer_json.h"
#include "core/data/tokenizer/unicode.h"

namespace muonp::core {
namespace {

constexpr bool is_printed(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

constexpr std::array<int, 0x144> make_bytes() {
  std::array<int, 0x144> bytes{};
  int next = 0x100;
  bytes.fill(-1);
  for (int byte = 0; byte < 256; ++byte) bytes[at(is_printed(byte) ? byte : next++)] = byte;
  return bytes;
}

constexpr std::array<int, 0x144> kBytes = make_bytes();

}  // namespace

std::string bytes_of_spelling(std::string_view token) {
  std::string bytes;
  for (std::string_view rest = token; !rest.empty();) {
    const CodePoint c = first_code_point(rest);
    if (c.value >= kBytes.size() || kBytes[c.value] < 0) return std::string(token);
    bytes += static_cast<char>(kBytes[c.value]);
    rest.remove_prefix(c.bytes);
  }
  return bytes;
}

}  // namespace muonp::core
