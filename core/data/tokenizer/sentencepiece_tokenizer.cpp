// A sentencepiece model as its originals use it: with its normaliser and a space before the text (Llama 2).
#include <sentencepiece_processor.h>

#include <charconv>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/data/tokenizer/json_fields.h"
#include "core/data/tokenizer/model_tokenizers.h"
#include "core/data/tokenizer/unicode.h"
#include "core/files/files.h"

namespace muonp::core {
namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";

// Of ModelProto, normalizer_spec (field 3) with add_dummy_prefix (its field 3) false. Behind a serialized model it is merged
// into what stands there.
constexpr std::string_view kNoPrefix("\x1a\x02\x18\x00", 4);

class SentencepieceTokenizer final : public Tokenizer {
 public:
  SentencepieceTokenizer(const std::string& file, const TokenizerConfig& config, std::string name) : name_(std::move(name)) {
    const std::string model = read_file(file);
    fingerprint_ = hash_bytes(model.data(), std::ssize(model));
    const std::string inner = model + std::string(kNoPrefix);
    if (model.empty() || !whole_.LoadFromSerializedProto(model).ok() || !inner_.LoadFromSerializedProto(inner).ok())
      fail("{} is no sentencepiece model{}", file, model.empty() ? ": it is empty" : "");
    prefixed_ = whole_.EncodeAsPieces("a") != inner_.EncodeAsPieces("a");
    legacy_ = flag_field(config.content, "legacy", true, config.path);
    adds_begin_ = flag_field(config.content, "add_bos_token", true, config.path);
    adds_end_ = flag_field(config.content, "add_eos_token", false, config.path);
    read_pieces();
    for (const AddedToken& token : config.added_tokens) add(token, config.path);
    begin_ = configured(config, "bos_token", whole_.bos_id());
    end_ = configured(config, "eos_token", whole_.eos_id());
  }

  std::string name() const override { return name_; }
  std::int64_t vocabulary() const override { return std::ssize(pieces_); }
  std::uint64_t fingerprint() const override { return fingerprint_; }
  std::int32_t begin() const override { return begin_; }
  std::int32_t end() const override { return end_; }
  bool adds_begin() const override { return adds_begin_ && begin_ >= 0; }
  bool adds_end() const override { return adds_end_ && end_ >= 0; }
  std::string_view piece(std::int32_t id) const override {
    require(id);
    return pieces_[at(id)];
  }
  bool is_special(std::int32_t id) const override {
    require(id);
    return special_[at(id)];
  }
  std::int32_t id_of(std::string_view token) const override {
    const auto found = ids_.find(std::string(token));
    return found == ids_.end() ? -1 : found->second;
  }
  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text = Tokenizer::decode(ids);
    if (prefixed_ && text.starts_with(' ')) text.erase(0, 1);
    return text;
  }

  // Each text between special tokens gets the space in front (`legacy` of tokenizer_config.json), or only the first.
  void encode_part(std::string_view text, bool first, Specials specials, std::vector<std::int32_t>& ids) const override {
    std::string repaired;
    text = repaired_utf8(text, repaired);
    const auto section = [&](std::string_view words, std::size_t begin) {
      const bool prefix = begin == 0 ? first : legacy_;
      std::vector<int> found;
      if (const auto status = (prefix ? whole_ : inner_).Encode(std::string(words), &found); !status.ok())
        fail("the tokenizer {} cannot encode '{}…': {}", name_, words.substr(0, 40), status.message());
      ids.insert(ids.end(), found.begin(), found.end());
    };
    added_.split(text, specials == Specials::parse, section, [&](std::int32_t id) { ids.push_back(id); });
  }

  std::string changes() const override {
    return "bytes that are no UTF-8 become U+FFFD; what the model's normaliser changes (spaces, Unicode forms); "
           "'\xe2\x96\x81' "
           "becomes ' '";
  }

 private:
  void require(std::int32_t id) const {
    if (id < 0 || id >= vocabulary())
      fail("the tokenizer {} has no id {}; its ids are 0 to {}", name_, id, vocabulary() - 1);
  }

  std::int32_t configured(const TokenizerConfig& config, const char* key, std::int32_t otherwise) const {
    const auto found = config.special_tokens.find(key);
    if (found == config.special_tokens.end()) return otherwise;
    if (id_of(found->second) < 0) fail("{}: {} is '{}', which is no token of {}", config.path, key, found->second, name_);
    return id_of(found->second);
  }

  void read_pieces() {
    for (int id = 0; id < whole_.GetPieceSize(); ++id) {
      const std::string& spelling = whole_.IdToPiece(id);
      const bool special = whole_.IsControl(id) || whole_.IsUnknown(id);
      ids_.emplace(spelling, id);
      special_.push_back(special);
      if (special) added_.add({.content = spelling, .id = id, .special = true});
      pieces_.push_back(special ? spelling : whole_.IsByte(id) ? byte_of(spelling) : text_of(spelling));
    }
  }

  static std::string byte_of(std::string_view spelling) {
    int byte = 0;
    std::from_chars(spelling.data() + 3, spelling.data() + 5, byte, 16);  // "<0xAB>"
    return {static_cast<char>(byte)};
  }

  static std::string text_of(std::string text) {
    for (std::size_t mark = text.find(kSpaceMark); mark != std::string::npos; mark = text.find(kSpaceMark, mark + 1))
      text.replace(mark, kSpaceMark.size(), 1, ' ');
    return text;
  }

  void add(const AddedToken& token, const std::string& path) {
    const auto known = ids_.find(token.content);
    if (known != ids_.end() && known->second == token.id) return;
    if (known != ids_.end() || token.id < vocabulary())
      fail("{}: added_tokens_decoder: '{}' has id {}, which the model has for another", path, token.content, token.id);
    pieces_.resize(at(token.id) + 1);
    special_.resize(at(token.id) + 1);
    pieces_[at(token.id)] = token.content;
    special_[at(token.id)] = token.special;
    ids_.emplace(token.content, token.id);
    added_.add(token);
  }

  std::string name_;
  std::uint64_t fingerprint_ = 0;
  sentencepiece::SentencePieceProcessor whole_, inner_;  // for a text's beginning; for what goes on
  bool prefixed_ = false, legacy_ = true, adds_begin_ = true, adds_end_ = false;
  AddedTokens added_;
  std::vector<std::string> pieces_;
  std::vector<bool> special_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::int32_t begin_ = -1, end_ = -1;
};

}  // namespace

TokenizerHandle open_sentencepiece_tokenizer(const std::string& file, const TokenizerConfig& config,
                                             const std::string& name) {
  return std::make_shared<SentencepieceTokenizer>(file, config, name);
}

}  // namespace muonp::core
