// Byte-pair encoding as the `tokenizers` library does it, from a tokenizer.json.
#include <algorithm>
#include <memory>
#include <mutex>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/utf8.h"
#include "core/data/tokenizer/model_tokenizers.h"
#include "core/data/tokenizer/tokenizer_json.h"
#include "core/data/tokenizer/unicode.h"
#include "core/files/files.h"

namespace muonp::core {
namespace {

struct Work {
  RegexWork regex;
  BpeModel::Work bpe;
  std::string repaired, normalized;
};

// As many as there are threads that encode at the same time.
class WorkPool {
 public:
  std::unique_ptr<Work> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Work>();
    std::unique_ptr<Work> work = std::move(idle_.back());
    idle_.pop_back();
    return work;
  }
  void give_back(std::unique_ptr<Work> work) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(work));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Work>> idle_;
};

class JsonTokenizer final : public Tokenizer {
 public:
  JsonTokenizer(const std::string& file, const TokenizerConfig& config, std::string name)
      : name_(std::move(name)), content_(read_tokenizer_json(file, config)) {
    const std::string bytes = read_file(file);
    fingerprint_ = hash_bytes(bytes.data(), std::ssize(bytes));
    begin_ = configured(config, "bos_token", content_.begin);
    end_ = configured(config, "eos_token", content_.end);
  }

  std::string name() const override { return name_; }
  std::int64_t vocabulary() const override { return std::ssize(content_.pieces); }
  std::uint64_t fingerprint() const override { return fingerprint_; }
  std::int32_t begin() const override { return begin_; }
  std::int32_t end() const override { return end_; }
  bool adds_begin() const override { return !content_.begin.empty(); }
  bool adds_end() const override { return !content_.end.empty(); }

  std::string_view piece(std::int32_t id) const override {
    require(id);
    return content_.pieces[at(id)];
  }
  bool is_special(std::int32_t id) const override {
    require(id);
    return content_.special[at(id)];
  }
  std::int32_t id_of(std::string_view token) const override {
    const auto found = content_.ids.find(std::string(token));
    return found == content_.ids.end() ? -1 : found->second;
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text = Tokenizer::decode(ids);
    const PieceDecoding& decoding = content_.decoding;
    for (std::size_t i = 0; i < decoding.leading_most && text.starts_with(decoding.leading); ++i)
      text.erase(0, decoding.leading.size());
    return text;
  }

  void encode_part(std::string_view text, bool first, Specials specials, std::vector<std::int32_t>& ids) const override {
    std::unique_ptr<Work> work = pool_.take();
    text = repaired_utf8(text, work->repaired);
    const bool with_special = specials == Specials::parse;
    const auto token = [&](std::int32_t id) { ids.push_back(id); };
    const auto raw = [&](std::string_view section, std::size_t begin) {
      const Place place = begin > 0 ? Place::inside : first ? Place::start : Place::continued;
      const std::string_view normal = content_.normalizer.apply(section, place, work->normalized, work->regex);
      const auto normalized = [&](std::string_view words, std::size_t from) {
        encode_words(words, from > 0 ? Place::inside : place, *work, ids);
      };
      content_.normalized.split(normal, with_special, normalized, token);
    };
    content_.raw.split(text, with_special, raw, token);
    pool_.give_back(std::move(work));
  }

  // The patterns of the supported families begin a new word at a space between letters, and on both sides of a line's end
  // that has no other white space beside it.
  bool may_cut(std::string_view text, std::size_t at) const override {
    if (content_.raw.touches_space() || content_.normalized.touches_space()) return false;
    if (text[at] == ' ') return at + 1 < text.size() && is_letter(text[at - 1]) && is_letter(text[at + 1]);
    if (text[at - 1] != '\n' || at < 2) return false;
    return is_ink(text.substr(at)) && is_ink(text.substr(utf8_cut(text, at - 2)));
  }

  std::string changes() const override {
    std::vector<std::string> all = content_.normalizer.changes();
    std::erase_if(all, [&](const std::string& change) { return change == kSpaceMarked; });
    all.insert(all.begin(), "bytes that are no UTF-8 become U+FFFD");
    if (!content_.splitter.prefix().empty())
      all.emplace_back(content_.decoding.leading_most == 0 ? "a space is put before a text that begins with none"
                                                           : "a text's first space is lost");
    if (!content_.model.knows_all_bytes())
      all.emplace_back("characters that are no token are left out or become the unknown token");
    if (content_.raw.touches_space() || content_.normalized.touches_space())
      all.emplace_back("added tokens may take the space beside them");
    if (!content_.decoding.replacements.empty())
      all.push_back(fmt::format("'{}' becomes '{}'", content_.decoding.replacements[0].first,
                                content_.decoding.replacements[0].second));
    return fmt::format("{}", fmt::join(all, "; "));
  }

 private:
  static constexpr std::string_view kSpaceMarked = "' ' becomes '\xe2\x96\x81'";

  static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
  static bool is_ink(std::string_view text) {
    return utf8_length(text) > 0 && !is_white_space(first_code_point(text).value);
  }

  void require(std::int32_t id) const {
    if (id < 0 || id >= vocabulary())
      fail("the tokenizer {} has no id {}; its ids are 0 to {}", name_, id, vocabulary() - 1);
  }

  std::int32_t configured(const TokenizerConfig& config, const char* key, const std::string& otherwise) const {
    const auto found = config.special_tokens.find(key);
    const std::string token = found == config.special_tokens.end() ? otherwise : found->second;
    if (token.empty()) return -1;
    if (id_of(token) < 0) fail("{}: {} is '{}', which is no token of {}", config.path, key, token, name_);
    return id_of(token);
  }

  void encode_words(std::string_view text, Place place, Work& work, std::vector<std::int32_t>& ids) const {
    content_.splitter.split(text, place, work.regex,
                            [&](std::string_view word) { content_.model.encode_word(word, work.bpe, ids); });
  }

  std::string name_;
  TokenizerJson content_;
  std::uint64_t fingerprint_ = 0;
  std::int32_t begin_ = -1, end_ = -1;
  mutable WorkPool pool_;
};

}  // namespace

TokenizerHandle open_json_tokenizer(const std::string& file, const TokenizerConfig& config, const std::string& name) {
  return std::make_shared<JsonTokenizer>(file, config, name);
}

}  // namespace muonp::core
