// Text to token ids and back. What holds for which:
//   byte, and sentencepiece models that `muonp tokenize` made: decode(encode(x)) == x for every string of bytes.
//   Tokenizers of Hugging Face folders give the ids that their originals give, and the originals change some texts:
//   changes() says in words what is not given back; where it is empty, every string comes back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

// What to do where a text contains the spelling of a special token ("<|im_end|>").
enum class Specials {
  parse,  // it is that token, as in the originals
  plain,  // it is text like any other; tokens that were added without being special are still found
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string name() const = 0;         // "byte", or the path it was opened with
  virtual std::int64_t vocabulary() const = 0;  // ids are [0, vocabulary)

  // Appends the ids of `text`, which depend on nothing else; nothing (no begin, no end) is put around them. Bytes that are
  // no UTF-8 become what changes() says. Threads may share a tokenizer.
  void encode(std::string_view text, std::vector<std::int32_t>& ids, Specials specials = Specials::parse) const {
    encode_part(text, true, specials, ids);
  }
  std::vector<std::int32_t> encode(std::string_view text, Specials specials = Specials::parse) const;
  // The same for a part of a longer text: only the first one gets what the tokenizer puts before a text (Llama 2's space).
  virtual void encode_part(std::string_view text, bool first, Specials specials, std::vector<std::int32_t>& ids) const = 0;
  // Whether the parts before and after `at` (0 < at < text.size()) have the ids that they have in the whole text.
  virtual bool may_cut(std::string_view text, std::size_t at) const { return text[at - 1] == '\n'; }

  // The bytes of one id, as a stream of ids prints them; of an added token its spelling. They may end within a character
  // that the next id completes. Error if it is not in the vocabulary.
  virtual std::string_view piece(std::int32_t id) const = 0;
  // All pieces, without what the tokenizer put before the text.
  virtual std::string decode(std::span<const std::int32_t> ids) const;
  // Whether the id is one of the special tokens, which stand for no text.
  virtual bool is_special(std::int32_t) const { return false; }
  // The tokens that begin and end a text (`bos_token` and `eos_token` of tokenizer_config.json); -1: none.
  virtual std::int32_t begin() const { return -1; }
  virtual std::int32_t end() const { return -1; }
  // Whether the original puts begin() before (end() after) every text that it encodes for a model.
  virtual bool adds_begin() const { return false; }
  virtual bool adds_end() const { return false; }
  // The id that is spelt `token`, in the spelling of the model file ("<|im_start|>", "Ġthe"); -1: none.
  virtual std::int32_t id_of(std::string_view token) const = 0;

  // One line about what encoding changes in some texts, for the person who trains on them; empty: nothing in any.
  virtual std::string changes() const { return ""; }
  // Differs between tokenizers that give different ids.
  virtual std::uint64_t fingerprint() const = 0;
};

using TokenizerHandle = std::shared_ptr<const Tokenizer>;

// One id per byte, vocabulary 256.
TokenizerHandle make_byte_tokenizer();
// "byte"; a sentencepiece model that `muonp tokenize` made; a tokenizer.json; or a Hugging Face folder with tokenizer.json
// or else tokenizer.model. Error: there is none, it is damaged, a sentencepiece model that is named itself is one whose
// decoding would not give the text back, or the file asks for what is not supported, which is named with its place.
TokenizerHandle open_tokenizer(const std::string& byte_or_path);
// Names of the files in a folder that belong to its tokenizer, chat template and generation (tokenizer.json,
// tokenizer_config.json, ...), those that exist: what a copy of the tokenizer consists of.
std::vector<std::string> tokenizer_files(const std::string& folder);

}  // namespace muonp::core
