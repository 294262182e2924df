// From the configuration to batches of token ids. Rank 0 calls prepare_dataset() (it reads text and JSONL, and makes a file
// of ids of it where one is needed) and tells the others what it returns; then every rank calls open_dataset(), which maps
// files and neither reads nor copies them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/data/batches.h"
#include "core/data/config.h"
#include "core/data/finetuning/example_file.h"
#include "core/data/preparation.h"
#include "core/data/token_file.h"
#include "core/data/tokenizer/tokenizer.h"

namespace muonp::core {

// Examples [begin, end) of a file.
struct ExamplePart {
  ExampleStore store;
  std::int64_t begin = 0, end = 0;
  double weight = 1;
  std::string what;  // "data.train: a.jsonl", for messages
};

struct Dataset {
  TokenSource train;                             // of text and token files; no ids where examples are trained on
  TokenSource whole;                             // of data.train, before its last part is split off
  TokenSource validation;                        // no ids where the configuration asks for none, or for examples
  std::vector<ExamplePart> train_examples;       // of data.train, then of data.mix
  std::vector<ExamplePart> validation_examples;  // of data.validation, or the last parts of all of these
  TokenizerHandle tokenizer;  // of the text; for token files the configured one, which only generation uses
  std::string description;    // one line for the start-up table

  bool has_validation() const { return validation.size() > 0 || !validation_examples.empty(); }
};

// The files that stand for text and for JSONL; empty where the data is read as it is.
struct TokenFiles {
  std::string train, validation;
  std::vector<std::string> mix = {};
  std::string encode() const;  // to tell other ranks
  static TokenFiles decode(const std::string& encoded);
};

// Encodes text and JSONL into the cache folder unless that was done before, and checks every id against the model's
// vocabulary and the length against one sequence. Error names the key, the path and what is missing.
TokenFiles prepare_dataset(const DataConfig& config, const std::string& run_directory, std::int64_t vocabulary,
                           const Preparation& preparation = {});
// Error if a file that prepare_dataset() has made is not there.
Dataset open_dataset(const DataConfig& config, const TokenFiles& token_files);

// Errors as of make_windows() and make_example_sequences().
TrainBatches make_train_batches(const Dataset& dataset, const DataConfig& config, std::uint64_t seed);
// None where there is no validation.
std::unique_ptr<ValidationBatches> make_validation_batches(const Dataset& dataset, const DataConfig& config);

}  // namespace muonp::core
