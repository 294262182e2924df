#include "core/data/dataset.h"

#include "core/base/error.h"
#include "core/data/data_part.h"
#include "core/data/finetuning/example_sequences.h"

namespace muonp::core {
namespace {

// What stands for the text or the JSONL files, made by rank 0.
void require_prepared(const DataPart& part, const std::string& made) {
  if (!exists(made))
    fail("{}: the file {} of the ids of {} is not there; rank 0 makes it in the cache folder, which all hosts must share",
         part.key, made, part.path);
}

// `tokens`: the token file of a text, empty where there is none.
TokenSource open_tokens(const DataPart& part, const Tokenizer& tokenizer, const std::string& tokens) {
  if (!tokens.empty()) {
    require_prepared(part, tokens);
    return TokenSource::from_token_files({tokens});
  }
  const std::vector<std::string> files = part.files();
  if (data_kind(files.front()) == DataKind::tokens) return TokenSource::from_token_files(files);
  MUONP_ASSERT(tokenizer.name() == "byte", "{}: the text {} has not been prepared", part.key, part.path);
  return TokenSource::from_bytes(files);
}

// The kind of what is there, or of what was made of it.
DataKind kind_of(const DataPart& part, const std::string& made) {
  return data_kind(made.empty() ? data_files(part.path, part.key).front() : made);
}

ExamplePart open_examples(const DataPart& part, const std::string& made, double weight) {
  if (!made.empty()) require_prepared(part, made);
  const std::string file = made.empty() ? data_files(part.path, part.key).front() : made;
  ExamplePart examples{ExampleStore(file), 0, 0, weight, part.text()};
  examples.end = examples.store.size();
  return examples;
}

void require_length(const TokenSource& tokens, std::int64_t sequence, const std::string& what) {
  if (tokens.size() <= sequence)
    fail("{} has {} tokens; one sequence of {} (data.sequence) needs {}", what, tokens.size(), sequence, sequence + 1);
}

// Splits off the validation tokens and checks that both parts can be used.
void divide_tokens(const DataConfig& config, Dataset& data) {
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
  if (config.validation.empty() && config.validation_fraction > 0)
    require_length(data.validation, config.sequence,
                   fmt::format("data.validation_fraction: the last {} of {}", config.validation_fraction, config.train));
}

// Splits off the last examples of each file.
void divide_examples(const DataConfig& config, Dataset& data) {
  if (!config.validation.empty()) return;
  for (ExamplePart& part : data.train_examples) {
    ExamplePart last = part;
    last.begin = part.end -= static_cast<std::int64_t>(config.validation_fraction * static_cast<double>(part.store.size()));
    if (last.begin < last.end) data.validation_examples.push_back(last);
  }
  if (config.validation_fraction > 0 && data.validation_examples.empty())
    fail(
        "data.validation_fraction: the last {} of the {} examples of {} are none; valid: a larger part, 0 for no "
        "validation, or a file of its own (data.validation)",
        config.validation_fraction, data.train_examples.front().store.size(), config.train);
}

std::string describe_examples(const std::vector<ExamplePart>& parts) {
  std::int64_t examples = 0, tokens = 0, counted = 0;
  for (const ExamplePart& part : parts) {
    examples += part.end - part.begin;
    for (std::int64_t i = part.begin; i < part.end; ++i) {
      tokens += part.store.tokens(i);
      counted += part.store.counted(i);
    }
  }
  return fmt::format("{} examples, {} tokens, {} of them counted,", examples, tokens, counted);
}

// What became of the lines that are not among the examples as they were.
std::string describe_losses(const std::vector<ExamplePart>& parts) {
  ExampleCounts all;
  for (const ExamplePart& part : parts) {
    const ExampleCounts& c = part.store.counts();
    all.truncated += c.truncated;
    all.dropped += c.dropped;
    all.without_target += c.without_target;
    all.broken += c.broken;
  }
  std::string text;
  if (all.truncated > 0) text += fmt::format("; {} cut", all.truncated);
  if (const std::int64_t n = all.dropped + all.without_target; n > 0) text += fmt::format("; {} too long", n);
  if (all.broken > 0) text += fmt::format("; {} broken", all.broken);
  return text;
}

std::string describe(const DataConfig& config, const Dataset& data) {
  const bool examples = !data.train_examples.empty(), examples_after = !data.validation_examples.empty();
  const std::string train = examples ? describe_examples(data.train_examples) : fmt::format("{} tokens", data.train.size());
  const std::string validation =
      examples_after ? describe_examples(data.validation_examples) : fmt::format("{}", data.validation.size());
  return fmt::format("{}: {} to train on, {} to validate ({}){}", config.train, train, validation,
                     config.validation.empty() ? "its last part" : config.validation, describe_losses(data.train_examples));
}

}  // namespace

std::string TokenFiles::encode() const {
  std::string text = train + '\0' + validation;
  for (const std::string& file : mix) text += '\0' + file;
  return text;
}

TokenFiles TokenFiles::decode(const std::string& encoded) {
  std::vector<std::string> files = {""};
  for (const char c : encoded) c == '\0' ? void(files.emplace_back()) : files.back().push_back(c);
  MUONP_ASSERT(files.size() >= 2, "token files '{}'", encoded);
  return {files[0], files[1], {files.begin() + 2, files.end()}};
}

namespace {

bool are_examples(DataKind kind) { return kind == DataKind::jsonl || kind == DataKind::examples; }

void open_train(const DataConfig& config, const TokenFiles& files, Dataset& data) {
  const DataPart part = train_part(config);
  if (!are_examples(kind_of(part, files.train))) {
    if (!config.mix.empty()) fail("data.mix: only examples (JSONL) can be mixed, and data.train is {}", config.train);
    data.train = open_tokens(part, *data.tokenizer, files.train);
    return divide_tokens(config, data);
  }
  data.train_examples.push_back(open_examples(part, files.train, 1));
  for (std::size_t i = 0; i < config.mix.size(); ++i) {
    const DataPart mixed = mix_part(config, i);
    const std::string made = i < files.mix.size() ? files.mix[i] : "";
    if (!are_examples(kind_of(mixed, made))) fail("{} is no JSONL file; only examples can be mixed", mixed.text());
    data.train_examples.push_back(open_examples(mixed, made, config.mix[i].weight));
  }
  divide_examples(config, data);
}

void open_validation(const DataConfig& config, const TokenFiles& files, Dataset& data) {
  if (config.validation.empty()) return;
  const DataPart part = validation_part(config);
  if (are_examples(kind_of(part, files.validation))) {
    data.validation_examples.push_back(open_examples(part, files.validation, 1));
  } else {
    data.validation = open_tokens(part, *data.tokenizer, files.validation);
    require_length(data.validation, config.sequence, part.text());
  }
}

std::vector<TrainBatches::Part> sequences_of(const std::vector<ExamplePart>& examples, const DataConfig& config) {
  std::vector<TrainBatches::Part> parts;
  for (const ExamplePart& e : examples)
    parts.push_back({make_example_sequences(e.store, e.begin, e.end, config.sequence, config.packing, e.what), e.weight});
  return parts;
}

}  // namespace

Dataset open_dataset(const DataConfig& config, const TokenFiles& token_files) {
  Dataset data;
  data.tokenizer = open_tokenizer(config.tokenizer);
  open_train(config, token_files, data);
  open_validation(config, token_files, data);
  data.description = describe(config, data);
  return data;
}

TrainBatches make_train_batches(const Dataset& dataset, const DataConfig& config, std::uint64_t seed) {
  if (dataset.train_examples.empty())
    return {make_windows(dataset.train, config.sequence), config.batch, seed, config.shuffle};
  return {sequences_of(dataset.train_examples, config), config.batch, seed, config.shuffle};
}

std::unique_ptr<ValidationBatches> make_validation_batches(const Dataset& dataset, const DataConfig& config) {
  if (!dataset.has_validation()) return nullptr;
  if (dataset.validation_examples.empty())
    return std::make_unique<ValidationBatches>(make_windows(dataset.validation, config.sequence));
  std::vector<SequencesHandle> parts;
  for (const TrainBatches::Part& part : sequences_of(dataset.validation_examples, config)) parts.push_back(part.sequences);
  return std::make_unique<ValidationBatches>(std::move(parts));
}

}  // namespace muonp::core
