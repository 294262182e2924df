#include "core/data/encode_text.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "core/data/data_part.h"
#include "core/data/in_order.h"
#include "core/files/mapped_file.h"

namespace muonp::core {
namespace {

// Bytes of text encoded at once: up to the first line's end after kPart, but no more than kLongestPart.
constexpr std::size_t kPart = std::size_t{1} << 16, kLongestPart = std::size_t{1} << 18;

// Cut where that leaves the ids as they are, which is at a line's end for most; where there is no such place, between two
// characters.
std::size_t part_of(const Tokenizer& tokenizer, std::string_view text) {
  if (text.size() <= kPart) return text.size();
  const std::size_t most = std::min(text.size(), kLongestPart + 1);
  for (std::size_t at = kPart; at < most; ++at)
    if (tokenizer.may_cut(text, at)) return at;
  for (std::size_t at = kPart - 1; at > 0; --at)
    if (tokenizer.may_cut(text, at)) return at;
  const std::size_t character = utf8_cut(text, kLongestPart);
  return kLongestPart - character < 4 ? character : std::min(kLongestPart, text.size());
}

struct TextPart {
  std::shared_ptr<const MappedFile> file;
  std::string_view text;
  bool first = true;  // of its file
};

// The files, one after the other, in parts.
class TextReader {
 public:
  TextReader(const Tokenizer& tokenizer, const std::vector<std::string>& files) : tokenizer_(tokenizer), files_(files) {}
  std::optional<TextPart> next() {
    while (rest_.text.empty()) {
      if (opened_ == files_.size()) return {};
      const std::string& path = files_[opened_++];
      if (file_size(path) == 0) continue;
      const auto file = std::make_shared<const MappedFile>(path);
      rest_ = {file, {file->data(), static_cast<std::size_t>(file->size())}, true};
    }
    TextPart part = rest_;
    part.text = rest_.text.substr(0, part_of(tokenizer_, rest_.text));
    rest_.first = false;
    rest_.text.remove_prefix(part.text.size());
    return part;
  }

 private:
  const Tokenizer& tokenizer_;
  const std::vector<std::string>& files_;
  std::size_t opened_ = 0;
  TextPart rest_;
};

}  // namespace

void encode_files(const Tokenizer& tokenizer, const std::vector<std::string>& text_files, const Preparation& preparation,
                  const std::function<void(std::span<const std::int32_t>)>& use) {
  struct Ids {
    std::vector<std::int32_t> ids;
    std::int64_t bytes;
  };
  std::int64_t total = 0, done = 0;
  for (const std::string& file : text_files) total += file_size(file);
  TextReader reader(tokenizer, text_files);
  work_in_order(
      preparation.threads, preparation.poll, [&] { return reader.next(); },
      [&](const TextPart& part) {
        Ids result{{}, std::ssize(part.text)};
        tokenizer.encode_part(part.text, part.first, Specials::parse, result.ids);
        part.file->require_whole();
        return result;
      },
      [&](const Ids& part) {
        use(std::span<const std::int32_t>(part.ids));
        done += part.bytes;
        if (preparation.progress) preparation.progress("encoding", done, total);
      });
}

std::int64_t tokenize_files(const Tokenizer& tokenizer, const std::vector<std::string>& text_files,
                            const std::string& token_file, TokenFormat format, const Preparation& preparation) {
  TokenFileWriter writer(token_file, format, tokenizer.vocabulary());
  encode_files(tokenizer, text_files, preparation, [&](std::span<const std::int32_t> ids) { writer.write(ids); });
  writer.commit();
  return writer.count();
}

std::int64_t count_tokens(const Tokenizer& tokenizer, const std::vector<std::string>& text_files,
                          const Preparation& preparation) {
  std::int64_t count = 0;
  encode_files(tokenizer, text_files, preparation, [&](std::span<const std::int32_t> ids) { count += std::ssize(ids); });
  return count;
}

std::vector<std::string> text_files_of(const std::string& path, const std::string& key) {
  std::vector<std::string> files = DataPart{key, path}.files();
  if (data_kind(files.front()) != DataKind::text)
    fail("{}: {} is {}; text is needed", key, files.front(),
         data_kind(files.front()) == DataKind::tokens ? "a token file" : "a file of examples");
  return files;
}

}  // namespace muonp::core
