// JSONL files to a file of encoded examples.
#pragma once

#include <string>
#include <vector>

#include "core/data/config.h"
#include "core/data/finetuning/example_encoder.h"
#include "core/data/preparation.h"

namespace muonp::core {

// Encodes all lines of the files, in their order, by `preparation.threads` threads; lines of white space are passed over.
// What is longer than data.sequence + 1 tokens is cut, left out or an Error, as data.too_long says; an example of which no
// target would be left is left out in any case. All is counted in the file (ExampleCounts) and told.
//
// Error, nothing written: lines that are no valid example, by file, line and reason, the first few of them and their number
// (with data.skip_bad they are told and left out); examples of several kinds; not one valid example. `key` begins messages.
void encode_examples(const ExampleEncoder& encoder, const ExampleFormat& format, const DataConfig& config,
                     const std::vector<std::string>& jsonl_files, const std::string& example_file, const std::string& key,
                     const Preparation& preparation);

// What the file depends on beside the JSONL files: the tokenizer, the template, and the keys of `config` that say how
// examples are read and cut.
std::uint64_t encoding_fingerprint(const ExampleEncoder& encoder, const DataConfig& config);

}  // namespace muonp::core
