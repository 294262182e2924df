#include "core/data/tokenizer/bpe_training.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "core/files/files.h"
#include "core/files/mapped_file.h"

namespace muonp::core {
namespace {

constexpr std::size_t kLongestSentence = 4000;  // bytes; sentencepiece leaves longer ones out
constexpr std::int64_t kReserved = 257;         // the unknown piece and the bytes

// Characters that end a training sentence: a line's end, and what sentencepiece keeps for itself (NUL, tab as
// its sentence boundary, U+2581 for a space, U+2585 for an unknown character).
bool ends_sentence(std::string_view text) {
  return text[0] == '\n' || text[0] == '\0' || text[0] == '\t' || text.starts_with("\xe2\x96\x81") ||
         text.starts_with("\xe2\x96\x85") || utf8_length(text) == 0;
}

// Hands the files to sentencepiece as pieces of lines of valid UTF-8, about `share` of all bytes, evenly
// spread.
class Sentences final : public sentencepiece::SentenceIterator {
 public:
  Sentences(const std::vector<std::string>& files, std::int64_t sample_bytes) : files_(files) {
    std::int64_t total = 0;
    for (const std::string& file : files_) total += file_size(file);
    share_ = std::min(1.0, static_cast<double>(sample_bytes) / static_cast<double>(std::max<std::int64_t>(total, 1)));
    Next();
  }
  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    do {
      advance();
    } while (!done_ && static_cast<double>(taken_) > share_ * static_cast<double>(seen_));
    taken_ += std::ssize(sentence_);
  }

 private:
  void advance() {
    sentence_.clear();
    while (sentence_.empty()) {
      if (rest_.empty() && !open_next_file()) {
        done_ = true;
        return;
      }
      if (rest_.empty()) continue;
      const std::size_t length = sentence_length();
      sentence_.assign(rest_.substr(0, length));
      rest_.remove_prefix(length == 0 ? 1 : length);
    }
    seen_ += std::ssize(sentence_);
  }

  std::size_t sentence_length() const {
    std::size_t length = 0, space = 0;
    while (length < rest_.size() && !ends_sentence(rest_.substr(length))) {
      const std::size_t character = utf8_length(rest_.substr(length));
      if (length + character > kLongestSentence) return space > 0 ? space : length;
      if (rest_[length] == ' ') space = length;
      length += character;
    }
    return length;
  }

  bool open_next_file() {
    if (file_) file_->require_whole();
    if (next_ == files_.size()) return false;
    const std::string& path = files_[next_++];
    file_.reset();
    if (file_size(path) == 0) return true;
    file_.emplace(path);
    rest_ = {file_->data(), static_cast<std::size_t>(file_->size())};
    return true;
  }

  const std::vector<std::string>& files_;
  std::size_t next_ = 0;
  std::optional<MappedFile> file_;
  std::string_view rest_;
  std::string sentence_;
  bool done_ = false;
  double share_ = 1;
  std::int64_t seen_ = 0, taken_ = 0;  // bytes
};

// sentencepiece's messages speak of its own sources and options; this keeps what the caller can act on.
std::string explain(const std::string& message) {
  const auto number_after = [&](const char* mark) {
    const std::size_t at = message.rfind(mark);
    const std::size_t digits = at == std::string::npos ? at : message.find_first_of("0123456789", at);
    if (digits == std::string::npos) return std::string();
    return message.substr(digits, message.find_first_not_of("0123456789", digits) - digits);
  };
  if (message.find("smaller than required_chars") != std::string::npos)
    return fmt::format("its bytes and characters alone take {}", number_after(" vs "));
  if (message.find("Vocabulary size too high") != std::string::npos)
    return fmt::format("its words give no more than {}", number_after("<="));
  return message;
}

}  // namespace

std::string learn_bpe(const std::vector<std::string>& text_files, std::int64_t vocabulary, std::int64_t sample_bytes) {
  if (vocabulary <= kReserved || vocabulary > 1'000'000)
    fail(
        "a vocabulary of {} is not possible: {} pieces are reserved (256 bytes and one more); 1,000,000 is "
        "the most",
        vocabulary, kReserved);
  Sentences sentences(text_files, sample_bytes);
  if (sentences.done()) fail("there is no UTF-8 text in {} to learn a tokenizer from", text_files.front());
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train({{"model_type", "bpe"},
                                                                  {"vocab_size", std::to_string(vocabulary)},
                                                                  {"byte_fallback", "true"},
                                                                  {"normalization_rule_name", "identity"},
                                                                  {"add_dummy_prefix", "false"},
                                                                  {"remove_extra_whitespaces", "false"},
                                                                  {"allow_whitespace_only_pieces", "true"},
                                                                  {"unk_id", "0"},
                                                                  {"bos_id", "-1"},
                                                                  {"eos_id", "-1"},
                                                                  {"pad_id", "-1"},
                                                                  {"input_sentence_size", "0"},
                                                                  {"minloglevel", "2"}},
                                                                 &sentences, &model);
  if (!status.ok())
    fail("no vocabulary of {} pieces can be learned from {}: {}", vocabulary, text_files.front(), explain(status.message()));
  return model;
}

void train_bpe(const std::vector<std::string>& text_files, std::int64_t vocabulary, const std::string& model_file,
               std::int64_t sample_bytes) {
  write_file(model_file, learn_bpe(text_files, vocabulary, sample_bytes));
}

}  // namespace muonp::core
