// Byte-pair encoding (Sennrich et al., 2016) learned from text by the sentencepiece library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muonp::core {

// Learns `vocabulary` pieces (256 of them are the bytes, one is reserved) from the files: learn_bpe() returns the model,
// train_bpe() writes it. Pieces never cross a line's end or go from one word into the next. Texts longer than sample_bytes
// are sampled line by line, evenly. The result depends on the content only. Error: the vocabulary is too small for the
// characters of the text, or larger than the text supports.
std::string learn_bpe(const std::vector<std::string>& text_files, std::int64_t vocabulary,
                      std::int64_t sample_bytes = std::int64_t{100} << 20);
void train_bpe(const std::vector<std::string>& text_files, std::int64_t vocabulary, const std::string& model_file,
               std::int64_t sample_bytes = std::int64_t{100} << 20);

}  // namespace muonp::core
