// The tokenizers that open_tokenizer() chooses among.
#pragma once

#include <string>

#include "core/data/tokenizer/tokenizer.h"
#include "core/data/tokenizer/tokenizer_config.h"

namespace muonp::core {

// A sentencepiece model as `muonp tokenize` makes it: byte fallback, no normalisation, no dummy prefix. Error if the file
// is none, or is one whose decoding would not give the text back.
TokenizerHandle open_bpe_tokenizer(const std::string& model_file);
// A tokenizer.json. `name` is for messages (the path the user gave).
TokenizerHandle open_json_tokenizer(const std::string& file, const TokenizerConfig& config, const std::string& name);
// A sentencepiece model with what its normaliser does to a text, as Llama 2 has one.
TokenizerHandle open_sentencepiece_tokenizer(const std::string& file, const TokenizerConfig& config,
                                             const std::string& name);

}  // namespace muonp::core
