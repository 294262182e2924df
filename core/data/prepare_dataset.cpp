#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/data/data_part.h"
#include "core/data/dataset.h"
#include "core/data/encode_text.h"
#include "core/data/finetuning/encode_examples.h"
#include "core/files/abandoned_files.h"

namespace muonp::core {
namespace {

// Depends on the content of the files and on `hash` only, not on where they are.
std::uint64_t hash_of(const std::vector<std::string>& files, std::uint64_t hash, const Preparation& preparation) {
  for (const std::string& file : files) {
    const FileSummary content = summarize_file(file, [&](std::int64_t) { preparation.ask(); });
    hash = hash_bytes(&content, sizeof(content), hash);
  }
  return hash;
}

// For the person who trains on the text: its ids do not give all of it back.
std::string what_changes(const Tokenizer& tokenizer) {
  const std::string changes = tokenizer.changes();
  return changes.empty() ? "" : fmt::format(" (the tokenizer changes text: {})", changes);
}

void require_vocabulary(const Tokenizer& tokenizer, std::int64_t vocabulary) {
  if (tokenizer.vocabulary() > vocabulary)
    fail("the tokenizer {} has ids up to {}, outside the model's vocabulary of {}", tokenizer.name(),
         tokenizer.vocabulary() - 1, vocabulary);
}

// Of one part after the other, into the cache folder.
class Preparer {
 public:
  Preparer(const DataConfig& config, std::string cache, std::int64_t vocabulary, const Preparation& preparation)
      : config_(config),
        tokenizer_(open_tokenizer(config.tokenizer)),
        cache_(std::move(cache)),
        vocabulary_(vocabulary),
        preparation_(preparation) {}

  // The file that stands for the part, made if it is not there; empty where the part is read as it is.
  std::string prepare(const DataPart& part) const {
    const std::vector<std::string> files = part.files();
    const DataKind kind = data_kind(files.front());
    if (kind == DataKind::tokens) TokenSource::from_token_files(files).check_vocabulary(vocabulary_, preparation_.poll);
    if (kind == DataKind::examples) require_ids(part, files);
    if (kind == DataKind::tokens || kind == DataKind::examples) return "";
    require_vocabulary(*tokenizer_, vocabulary_);
    return kind == DataKind::jsonl ? prepare_examples(part, files) : prepare_text(part, files);
  }

 private:
  void require_ids(const DataPart& part, const std::vector<std::string>& files) const {
    if (files.size() > 1) fail("{}: {} files of encoded examples; one can be read", part.text(), files.size());
    if (const std::int64_t largest = ExampleStore(files.front()).counts().largest_id; largest >= vocabulary_)
      fail("{}: id {} is outside the model's vocabulary of {}", part.text(), largest, vocabulary_);
  }

  std::string prepare_text(const DataPart& part, const std::vector<std::string>& files) const {
    if (tokenizer_->name() == "byte") return "";
    const std::string tokens =
        fmt::format("{}/tokens-{:016x}.bin", cache_, hash_of(files, tokenizer_->fingerprint(), preparation_));
    if (!exists(tokens)) {
      begin(part, tokens);
      tokenize_files(*tokenizer_, files, tokens, TokenFormat::llmc, preparation_);
    }
    return tokens;
  }

  std::string prepare_examples(const DataPart& part, const std::vector<std::string>& files) const {
    const ExampleEncoder encoder(config_, tokenizer_, open_chat_template(config_, *tokenizer_));
    const ExampleFormat format(config_);
    const std::string examples = fmt::format("{}/examples-{:016x}.examples", cache_,
                                             hash_of(files, encoding_fingerprint(encoder, config_), preparation_));
    if (!exists(examples)) {
      begin(part, examples);
      encode_examples(encoder, format, config_, files, examples, part.key, preparation_);
    }
    return examples;
  }

  void begin(const DataPart& part, const std::string& file) const {
    preparation_.tell(
        fmt::format("encoding {} with {} into {}{}", part.path, tokenizer_->name(), file, what_changes(*tokenizer_)));
    make_directories(cache_);
    remove_abandoned_files(cache_);
  }

  const DataConfig& config_;
  TokenizerHandle tokenizer_;
  std::string cache_;
  std::int64_t vocabulary_;
  const Preparation& preparation_;
};

}  // namespace

TokenFiles prepare_dataset(const DataConfig& config, const std::string& run_directory, std::int64_t vocabulary,
                           const Preparation& preparation) {
  const Preparer preparer(config, config.cache.empty() ? run_directory : config.cache, vocabulary, preparation);
  TokenFiles files;
  files.train = preparer.prepare(train_part(config));
  for (std::size_t i = 0; i < config.mix.size(); ++i) files.mix.push_back(preparer.prepare(mix_part(config, i)));
  if (!config.validation.empty()) files.validation = preparer.prepare(validation_part(config));
  const Dataset dataset = open_dataset(config, files);
  if (!dataset.train_examples.empty()) make_train_batches(dataset, config, 0);
  if (!dataset.validation_examples.empty()) make_validation_batches(dataset, config);
  return files;
}

}  // namespace muonp::core
