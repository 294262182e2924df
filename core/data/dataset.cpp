#include "core/data/dataset.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/utf8.h"
#include "core/data/data_files.h"
#include "core/files/abandoned_files.h"

namespace muonp::core {
namespace {

// Bytes of text encoded at once: up to the first line's end after kPart, but no more than kLongestPart.
constexpr std::size_t kPart = std::size_t{1} << 16, kLongestPart = std::size_t{1} << 18;

void require_content(const std::vector<std::string>& files, const std::string& path, const std::string& key) {
  if (std::all_of(files.begin(), files.end(), [](const std::string& f) { return file_size(f) == 0; }))
    fail("{}: {} is empty", key, path);
}

std::string cache_directory(const DataConfig& config, const std::string& run_directory) {
  return config.cache.empty() ? run_directory : config.cache;
}

// Depends on the text and the tokenizer only, not on where they are.
std::string cache_file(const std::string& directory, const std::vector<std::string>& files, const Tokenizer& tokenizer,
                       const Poll& poll) {
  std::uint64_t hash = tokenizer.fingerprint();
  for (const std::string& file : files) {
    const FileSummary content = summarize_file(file, [&](std::int64_t) { poll ? poll() : void(); });
    hash = hash_bytes(&content, sizeof(content), hash);
  }
  return fmt::format("{}/tokens-{:016x}.bin", directory, hash);
}

struct Part {
  std::string key, path;
};

// `tokens`: the token file of a text, empty where there is none.
TokenSource open_part(const Part& part, const Tokenizer& tokenizer, const std::string& tokens) {
  if (!tokens.empty()) {
    if (!exists(tokens))
      fail(
          "{}: the token file {} of the text {} is not there; rank 0 makes it in the cache folder, which all "
          "hosts must share",
          part.key, tokens, part.path);
    return TokenSource::from_token_files({tokens});
  }
  const std::vector<std::string> files = data_files(part.path, part.key);
  require_content(files, part.path, part.key);
  if (is_token_file(files.front())) return TokenSource::from_token_files(files);
  MUONP_ASSERT(tokenizer.name() == "byte", "{}: the text {} has not been prepared", part.key, part.path);
  return TokenSource::from_bytes(files);
}

// For the person who trains on the text: its ids do not give all of it back.
std::string what_changes(const Tokenizer& tokenizer) {
  const std::string changes = tokenizer.changes();
  return changes.empty() ? "" : fmt::format(" (the tokenizer changes text: {})", changes);
}

// The token file of a text, made if it is not there.
std::string prepare_part(const Part& part, const Tokenizer& tokenizer, const std::string& cache, std::int64_t vocabulary,
                         const std::function<void(const std::string&)>& say, const Poll& poll) {
  const std::vector<std::string> files = data_files(part.path, part.key);
  require_content(files, part.path, part.key);
  if (is_token_file(files.front())) {
    TokenSource::from_token_files(files).check_vocabulary(vocabulary, poll);
    return "";
  }
  if (tokenizer.vocabulary() > vocabulary)
    fail("the tokenizer {} has ids up to {}, outside the model's vocabulary of {}", tokenizer.name(),
         tokenizer.vocabulary() - 1, vocabulary);
  if (tokenizer.name() == "byte") return "";
  const std::string tokens = cache_file(cache, files, tokenizer, poll);
  if (exists(tokens)) return tokens;
  if (say) say(fmt::format("encoding {} with {} into {}{}", part.path, tokenizer.name(), tokens, what_changes(tokenizer)));
  make_directories(cache);
  remove_abandoned_files(cache);
  tokenize_files(tokenizer, files, tokens, TokenFormat::llmc, poll);
  return tokens;
}

std::int64_t require_windows(const TokenSource& tokens, std::int64_t sequence) {
  if (tokens.size() <= sequence)
    fail("the data has {} tokens; one sequence of {} needs {}", tokens.size(), sequence, sequence + 1);
  return (tokens.size() - 1) / sequence;
}

void require_length(const TokenSource& tokens, std::int64_t sequence, const std::string& what) {
  if (tokens.size() <= sequence)
    fail("{} has {} tokens; one sequence of {} (data.sequence) needs {}", what, tokens.size(), sequence, sequence + 1);
}

// Splits off the validation tokens and checks that both parts can be used.
void divide(const DataConfig& config, Dataset& data) {
  const TokenSource all = data.whole = data.train;
  std::int64_t kept = all.size();
  if (config.validation.empty()) {
    require_length(all, config.sequence, fmt::format("data.train: {}", config.train));
    kept -= static_cast<std::int64_t>(config.validation_fraction * static_cast<double>(all.size()));
    data.train = all.slice(0, kept);
    data.validation = all.slice(kept, all.size());
  }
  const std::string name = kept == all.size() ? "" : " without its validation part";
  require_length(data.train, config.sequence, fmt::format("data.train: {}{}", config.train, name));
  if (!config.validation.empty())
    require_length(data.validation, config.sequence, fmt::format("data.validation: {}", config.validation));
  else if (config.validation_fraction > 0)
    require_length(data.validation, config.sequence,
                   fmt::format("data.validation_fraction: the last {} of {}", config.validation_fraction, config.train));
}

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

// Window window_of(i) into the i-th sequence of both, for i < count.
template <class WindowOf>
void fill_windows(const TokenSource& tokens, std::int64_t sequence, std::int64_t count, const WindowOf& window_of,
                  std::span<std::int32_t> inputs, std::span<std::int32_t> targets) {
  MUONP_ASSERT(std::ssize(inputs) == count * sequence && std::ssize(targets) == count * sequence,
               "{} inputs and {} targets for {} sequences of {}", inputs.size(), targets.size(), count, sequence);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t begin = window_of(i) * sequence;
    tokens.read(begin, sequence, inputs.data() + i * sequence);
    tokens.read(begin + 1, sequence, targets.data() + i * sequence);
  }
}

}  // namespace

std::string TokenFiles::encode() const { return train + '\0' + validation; }

TokenFiles TokenFiles::decode(const std::string& encoded) {
  const std::size_t end = encoded.find('\0');
  MUONP_ASSERT(end != std::string::npos, "token files '{}'", encoded);
  return {encoded.substr(0, end), encoded.substr(end + 1)};
}

TokenFiles prepare_dataset(const DataConfig& config, const std::string& run_directory, std::int64_t vocabulary,
                           const std::function<void(const std::string&)>& say, const Poll& poll) {
  const TokenizerHandle tokenizer = open_tokenizer(config.tokenizer);
  const std::string cache = cache_directory(config, run_directory);
  TokenFiles token_files;
  token_files.train = prepare_part({"data.train", config.train}, *tokenizer, cache, vocabulary, say, poll);
  if (!config.validation.empty())
    token_files.validation = prepare_part({"data.validation", config.validation}, *tokenizer, cache, vocabulary, say, poll);
  open_dataset(config, token_files);
  return token_files;
}

Dataset open_dataset(const DataConfig& config, const TokenFiles& token_files) {
  Dataset data;
  data.tokenizer = open_tokenizer(config.tokenizer);
  data.train = open_part({"data.train", config.train}, *data.tokenizer, token_files.train);
  if (!config.validation.empty())
    data.validation = open_part({"data.validation", config.validation}, *data.tokenizer, token_files.validation);
  divide(config, data);
  data.description = fmt::format("{}: {} tokens to train on, {} to validate ({})", config.train, data.train.size(),
                                 data.validation.size(), config.validation.empty() ? "its last part" : config.validation);
  return data;
}

void encode_files(const Tokenizer& tokenizer, const std::vector<std::string>& text_files, const Poll& poll,
                  const std::function<void(std::span<const std::int32_t>)>& use) {
  std::vector<std::int32_t> ids;
  for (const std::string& path : text_files) {
    if (file_size(path) == 0) continue;
    const MappedFile file(path);
    std::string_view rest(file.data(), static_cast<std::size_t>(file.size()));
    for (bool first = true; !rest.empty(); first = false) {
      if (poll) poll();
      const std::size_t cut = part_of(tokenizer, rest);
      ids.clear();
      tokenizer.encode_part(rest.substr(0, cut), first, Specials::parse, ids);
      file.require_whole();
      use(std::span<const std::int32_t>(ids));
      rest.remove_prefix(cut);
    }
  }
}

std::int64_t tokenize_files(const Tokenizer& tokenizer, const std::vector<std::string>& text_files,
                            const std::string& token_file, TokenFormat format, const Poll& poll) {
  TokenFileWriter writer(token_file, format, tokenizer.vocabulary());
  encode_files(tokenizer, text_files, poll, [&](std::span<const std::int32_t> ids) { writer.write(ids); });
  writer.commit();
  return writer.count();
}

std::int64_t count_tokens(const Tokenizer& tokenizer, const std::vector<std::string>& text_files, const Poll& poll) {
  std::int64_t count = 0;
  encode_files(tokenizer, text_files, poll, [&](std::span<const std::int32_t> ids) { count += std::ssize(ids); });
  return count;
}

std::vector<std::string> text_files_of(const std::string& path, const std::string& key) {
  std::vector<std::string> files = data_files(path, key);
  if (is_token_file(files.front())) fail("{}: {} is a token file; text is needed", key, files.front());
  require_content(files, path, key);
  return files;
}

TrainBatches::TrainBatches(TokenSource tokens, std::int64_t sequence, std::int64_t batch, std::uint64_t seed, bool shuffle)
    : tokens_(std::move(tokens)), sequence_(sequence), order_(require_windows(tokens_, sequence), batch, seed, shuffle) {}

void TrainBatches::fill_batch(std::int64_t step, std::int64_t first, std::int64_t count, std::span<std::int32_t> inputs,
                              std::span<std::int32_t> targets) const {
  fill_windows(
      tokens_, sequence_, count, [&](std::int64_t i) { return order_.window(step, first + i); }, inputs, targets);
}

ValidationBatches::ValidationBatches(TokenSource tokens, std::int64_t sequence)
    : tokens_(std::move(tokens)), sequence_(sequence), windows_(require_windows(tokens_, sequence)) {}

void ValidationBatches::fill_batch(std::int64_t first, std::int64_t count, std::span<std::int32_t> inputs,
                                   std::span<std::int32_t> targets) const {
  MUONP_ASSERT(first >= 0 && count >= 0 && first + count <= windows_, "[{}, {}) of {} windows", first, first + count,
               windows_);
  fill_windows(
      tokens_, sequence_, count, [&](std::int64_t i) { return first + i; }, inputs, targets);
}

}  // namespace muonp::core
