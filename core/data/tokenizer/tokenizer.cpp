#include "core/data/tokenizer/tokenizer.h"

#include <array>

#include "core/base/error.h"
#include "core/base/index.h"

namespace muonp::core {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (std::size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(i);
  }
  std::string name() const override { return "byte"; }
  std::int64_t vocabulary() const override { return 256; }
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override {
    ids.reserve(ids.size() + text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  }
  std::string_view piece(std::int32_t id) const override {
    if (id < 0 || id >= 256) fail("the byte tokenizer has no id {}; its ids are 0 to 255", id);
    return {&bytes_[at(id)], 1};
  }
  std::uint64_t fingerprint() const override { return 256; }

 private:
  std::array<char, 256> bytes_;
};

}  // namespace

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  encode(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += piece(id);
  return text;
}

TokenizerHandle make_byte_tokenizer() { return std::make_shared<ByteTokenizer>(); }

TokenizerHandle open_tokenizer(const std::string& byte_or_path) {
  return byte_or_path == "byte" ? make_byte_tokenizer() : open_bpe_tokenizer(byte_or_path);
}

}  // namespace muonp::core
