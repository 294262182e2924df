// From the configuration to batches of token ids. Rank 0 calls prepare_dataset() (it reads the text, and makes a token file
// of it where one is needed) and tells the others what it returns; then every rank calls open_dataset(), which maps files
// and neither reads nor copies them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "core/data/config.h"
#include "core/data/sample_order.h"
#include "core/data/token_file.h"
#include "core/data/tokenizer/tokenizer.h"

namespace muonp::core {

struct Dataset {
  TokenSource train;
  TokenSource whole;          // of data.train, before its last part is split off
  TokenSource validation;     // no ids where the configuration asks for none
  TokenizerHandle tokenizer;  // of the text; for token files the configured one, which only generation uses
  std::string description;    // one line for the start-up table
};

// The token files that stand for text; empty where the data is read as it is.
struct TokenFiles {
  std::string train, validation;
  std::string encode() const;  // to tell other ranks
  static TokenFiles decode(const std::string& encoded);
};

// Called now and then, at least once a second, by what may take long. What it throws ends that work; nothing half
// written stays.
using Poll = std::function<void()>;

// Tokenises text into the cache folder unless that was done before, and checks every id against the model's
// vocabulary and the length against one sequence. `say` gets a line before something that takes time. Error
// names the key, the path and what is missing.
TokenFiles prepare_dataset(const DataConfig& config, const std::string& run_directory, std::int64_t vocabulary,
                           const std::function<void(const std::string&)>& say = {}, const Poll& poll = {});
// Error if a token file that prepare_dataset() has made is not there.
Dataset open_dataset(const DataConfig& config, const TokenFiles& token_files);

// Encodes text files, one after the other, into a token file. Returns the number of ids.
std::int64_t tokenize_files(const Tokenizer& tokenizer, const std::vector<std::string>& text_files,
                            const std::string& token_file, TokenFormat format, const Poll& poll = {});
// Hands the ids of the files to `use`, part by part, as if all of a file were encoded at once.
void encode_files(const Tokenizer& tokenizer, const std::vector<std::string>& text_files, const Poll& poll,
                  const std::function<void(std::span<const std::int32_t>)>& use);
std::int64_t count_tokens(const Tokenizer& tokenizer, const std::vector<std::string>& text_files, const Poll& poll = {});
// The text files that `path` stands for: itself, or those below a folder. Error: none, or no text in them.
// `key` begins the message ("data.train").
std::vector<std::string> text_files_of(const std::string& path, const std::string& key);

// Batches for training. Sample i of a step is the same whoever asks.
class TrainBatches {
 public:
  // Error unless `tokens` holds at least one sequence and one token more.
  TrainBatches(TokenSource tokens, std::int64_t sequence, std::int64_t batch, std::uint64_t seed, bool shuffle);
  const SampleOrder& order() const { return order_; }
  std::int64_t sequence() const { return sequence_; }
  // Samples [first, first + count) of `step`: inputs and targets (the token after each input), count·sequence ids each,
  // one sequence after the other.
  void fill_batch(std::int64_t step, std::int64_t first, std::int64_t count, std::span<std::int32_t> inputs,
                  std::span<std::int32_t> targets) const;

 private:
  TokenSource tokens_;
  std::int64_t sequence_;
  SampleOrder order_;
};

// The data's windows in their order, each once; the tokens after the last whole window are left out.
class ValidationBatches {
 public:
  ValidationBatches(TokenSource tokens, std::int64_t sequence);  // Error as above
  std::int64_t windows() const { return windows_; }
  // Windows [first, first + count), laid out as above.
  void fill_batch(std::int64_t first, std::int64_t count, std::span<std::int32_t> inputs,
                  std::span<std::int32_t> targets) const;

 private:
  TokenSource tokens_;
  std::int64_t sequence_, windows_;
};

}  // namespace muonp::core
