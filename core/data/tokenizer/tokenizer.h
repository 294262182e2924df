// Text to token ids and back. Both tokenizers here are lossless: decode(encode(x)) == x for every string of
// bytes, whether it is valid UTF-8 or not.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string name() const = 0;         // "byte" or the model file's path
  virtual std::int64_t vocabulary() const = 0;  // ids are [0, vocabulary)
  // Appends the ids of `text`. The text's ids do not depend on earlier calls; cutting a text at a line's end
  // does not change its ids.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  // The bytes of one id. Error if it is not in the vocabulary.
  virtual std::string_view piece(std::int32_t id) const = 0;
  // Differs between tokenizers that give different ids.
  virtual std::uint64_t fingerprint() const = 0;

  std::vector<std::int32_t> encode(std::string_view text) const;
  std::string decode(std::span<const std::int32_t> ids) const;
};

using TokenizerHandle = std::shared_ptr<const Tokenizer>;

// One id per byte, vocabulary 256.
TokenizerHandle make_byte_tokenizer();
// A sentencepiece model as `muonp tokenize` makes it: byte fallback, no normalisation, no dummy prefix. Error
// if the file is none, or is one whose decoding would not give the text back.
TokenizerHandle open_bpe_tokenizer(const std::string& model_file);
// "byte" or the path of a model file.
TokenizerHandle open_tokenizer(const std::string& byte_or_path);

}  // namespace muonp::core
