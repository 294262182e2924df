#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/utf8.h"
#include "core/data/tokenizer/model_tokenizers.h"
#include "core/files/files.h"

namespace muonp::core {
namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581, what sentencepiece writes for a space
constexpr std::size_t kLongestChunk = 1 << 16;
constexpr std::size_t kCacheBytes = 16 << 20;  // in words that are known, with what a table entry takes besides
constexpr std::size_t kEntryBytes = 128;

std::string unmark(std::string_view marked) {
  std::string text;
  for (std::size_t i = 0; i < marked.size();) {
    const bool mark = marked.substr(i).starts_with(kSpaceMark);
    text += mark ? ' ' : marked[i];
    i += mark ? kSpaceMark.size() : 1;
  }
  return text;
}

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

// sentencepiece sees only what it gives back unchanged: valid UTF-8 without newline, NUL and the space mark, and
// without spaces where the model has no piece for one: it would spell the mark then. Every other byte becomes its
// byte piece here.
class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(std::string path) : path_(std::move(path)) {
    const std::string model = read_file(path_);
    fingerprint_ = hash_bytes(model.data(), std::ssize(model));
    if (model.empty() || !processor_.LoadFromSerializedProto(model).ok())
      fail("{} is not a tokenizer model made by `muonp tokenize`{}", path_, model.empty() ? ": it is empty" : "");
    read_pieces();
    probe();
  }

  std::string name() const override { return path_; }
  std::int64_t vocabulary() const override { return std::ssize(pieces_); }
  std::uint64_t fingerprint() const override { return fingerprint_; }
  std::string_view piece(std::int32_t id) const override {
    if (id < 0 || id >= vocabulary())
      fail("the tokenizer {} has no id {}; its ids are 0 to {}", path_, id, vocabulary() - 1);
    return pieces_[at(id)];
  }

  std::int32_t id_of(std::string_view token) const override {
    const int id = processor_.PieceToId(std::string(token));
    return processor_.IsUnknown(id) && processor_.IdToPiece(id) != token ? -1 : id;
  }

  // There are no special tokens, and a part is like any text.
  void encode_part(std::string_view text, bool, Specials, std::vector<std::int32_t>& ids) const override {
    const std::lock_guard lock(mutex_);
    std::size_t begin = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = plain_length(text.substr(at));
      if (length > 0) {
        at += length;
        continue;
      }
      encode_plain(text.substr(begin, at - begin), ids);
      ids.push_back(byte_ids_[static_cast<unsigned char>(text[at])]);
      begin = ++at;
    }
    encode_plain(text.substr(begin), ids);
  }

 private:
  // Bytes of the character at the front if sentencepiece may see it, else 0. The bytes that follow the first
  // byte of an excluded character are no characters themselves and are excluded one by one.
  std::size_t plain_length(std::string_view text) const {
    if (text[0] == '\n' || text[0] == '\0' || text.starts_with(kSpaceMark)) return 0;
    if (text[0] == ' ' && !has_space_) return 0;
    return utf8_length(text);
  }

  void encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const {
    while (!text.empty()) {
      const std::size_t length = words_are_independent_ ? word_length(text) : text.size();
      const std::size_t cut = length <= kLongestChunk ? length : utf8_cut(text, kLongestChunk);
      const std::vector<int>& word = encode_word(text.substr(0, cut));
      ids.insert(ids.end(), word.begin(), word.end());
      text.remove_prefix(cut);
    }
  }

  // Up to the first space that follows something else: "  two words" gives "  two".
  static std::size_t word_length(std::string_view text) {
    const std::size_t letter = text.find_first_not_of(' ');
    return letter == std::string_view::npos ? text.size() : std::min(text.find(' ', letter), text.size());
  }

  const std::vector<int>& encode_word(std::string_view word) const {
    if (const auto known = words_.find(word); known != words_.end()) return known->second;
    std::vector<int> ids;
    if (const auto status = processor_.Encode(std::string(word), &ids); !status.ok())
      fail("the tokenizer {} cannot encode '{}': {}", path_, word, status.message());
    const std::size_t bytes = kEntryBytes + word.size() + ids.capacity() * sizeof(int);
    if (cached_bytes_ + bytes > kCacheBytes) {
      words_.clear();
      cached_bytes_ = 0;
    }
    cached_bytes_ += bytes;
    return words_.emplace(std::string(word), std::move(ids)).first->second;
  }

  void read_pieces() {
    byte_ids_.fill(-1);
    words_are_independent_ = true;
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      const std::string& marked = processor_.IdToPiece(id);
      if (processor_.IsByte(id)) {
        const auto byte = static_cast<unsigned char>(std::stoi(marked.substr(3, 2), nullptr, 16));  // "<0xAB>"
        byte_ids_[byte] = id;
        pieces_.emplace_back(1, static_cast<char>(byte));
      } else if (processor_.IsControl(id) || processor_.IsUnknown(id) || processor_.IsUnused(id)) {
        pieces_.emplace_back();
      } else {
        pieces_.push_back(unmark(marked));
        has_space_ = has_space_ || pieces_.back() == " ";
        const std::size_t letter = pieces_.back().find_first_not_of(' ');
        if (letter != std::string::npos && pieces_.back().find(' ', letter) != std::string::npos)
          words_are_independent_ = false;
      }
    }
    if (std::find(byte_ids_.begin(), byte_ids_.end(), -1) != byte_ids_.end())
      fail(
          "{} has no pieces for all 256 bytes, so that it cannot encode every text; `muonp tokenize` makes "
          "models that can",
          path_);
  }

  // A model of another tool may change the text on the way: by a space before it, by joining spaces, by
  // Unicode normalisation.
  void probe() const {
    const std::string text = "a  b \xef\xac\x81 \xe2\x91\xa0 A\xcc\x8a\tx ";
    if (decode(encode(text)) != text)
      fail(
          "{} normalises text, so that decoding does not give it back; `muonp tokenize` makes models that do "
          "not",
          path_);
  }

  std::string path_;
  std::uint64_t fingerprint_ = 0;
  sentencepiece::SentencePieceProcessor processor_;
  std::vector<std::string> pieces_;
  std::array<std::int32_t, 256> byte_ids_{};
  bool has_space_ = false;              // as a piece of its own
  bool words_are_independent_ = false;  // no piece goes on from a letter to a space, so no merge does
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::string, std::vector<int>, StringHash, std::equal_to<>> words_;
  mutable std::size_t cached_bytes_ = 0;
};

}  // namespace

TokenizerHandle open_bpe_tokenizer(const std::string& model_file) { return std::make_shared<BpeTokenizer>(model_file); }

}  // namespace muonp::core
