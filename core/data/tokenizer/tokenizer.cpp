#include "core/data/tokenizer/tokenizer.h"

#include <array>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/data/tokenizer/model_tokenizers.h"
#include "core/files/files.h"

namespace muonp::core {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (std::size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(i);
  }
  std::string name() const override { return "byte"; }
  std::int64_t vocabulary() const override { return 256; }
  void encode_part(std::string_view text, bool, Specials, std::vector<std::int32_t>& ids) const override {
    ids.reserve(ids.size() + text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  }
  std::string_view piece(std::int32_t id) const override {
    if (id < 0 || id >= 256) fail("the byte tokenizer has no id {}; its ids are 0 to 255", id);
    return {&bytes_[at(id)], 1};
  }
  std::uint64_t fingerprint() const override { return 256; }
  // A byte is spelt as itself.
  std::int32_t id_of(std::string_view token) const override {
    return token.size() == 1 ? static_cast<unsigned char>(token[0]) : -1;
  }

 private:
  std::array<char, 256> bytes_;
};

constexpr std::array kFiles = {
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json",     "merges.txt",      "chat_template.jinja",   "generation_config.json"};

TokenizerHandle open_folder(const std::string& folder) {
  const TokenizerConfig config = read_tokenizer_config(folder);
  if (const std::string json = folder + "/tokenizer.json"; exists(json)) return open_json_tokenizer(json, config, folder);
  if (const std::string model = folder + "/tokenizer.model"; exists(model))
    return open_sentencepiece_tokenizer(model, config, folder);
  fail("{}: there is no tokenizer in this folder; tokenizer.json or tokenizer.model is needed", folder);
}

// A tokenizer.json under whatever name: a model file of sentencepiece begins with another byte.
bool is_json(const std::string& path) {
  const std::string start = read_start(path, 64);
  const std::size_t first = start.find_first_not_of(" \t\r\n");
  return first != std::string::npos && start[first] == '{';
}

}  // namespace

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, Specials specials) const {
  std::vector<std::int32_t> ids;
  encode(text, ids, specials);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += piece(id);
  return text;
}

TokenizerHandle make_byte_tokenizer() { return std::make_shared<ByteTokenizer>(); }

TokenizerHandle open_tokenizer(const std::string& byte_or_path) {
  if (byte_or_path == "byte") return make_byte_tokenizer();
  if (is_directory(byte_or_path)) return open_folder(byte_or_path);
  if (!is_json(byte_or_path)) return open_bpe_tokenizer(byte_or_path);
  return open_json_tokenizer(byte_or_path, read_tokenizer_config(parent_directory(byte_or_path)), byte_or_path);
}

std::vector<std::string> tokenizer_files(const std::string& folder) {
  std::vector<std::string> files;
  for (const char* name : kFiles)
    if (exists(folder + "/" + name)) files.emplace_back(name);
  return files;
}

}  // namespace muonp::core
