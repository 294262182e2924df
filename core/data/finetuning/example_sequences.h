// Examples as the sequences of a model: one a sequence with padding behind it, or packed.
#pragma once

#include <cstdint>

#include "core/data/finetuning/example_file.h"
#include "core/data/sequences.h"

namespace muonp::core {

// Examples [begin, end) of a store; an example of n ids is a document of n − 1 inputs, whose targets are the ids one later,
// −1 for those that are not learned. Padding has inputs 0 and targets −1; in packed sequences it is a document of its own.
// Error, with `what` at its start ("data.train: a.jsonl"): an example that is longer than length + 1 ids, none at all.
SequencesHandle make_example_sequences(const ExampleStore& store, std::int64_t begin, std::int64_t end, std::int64_t length,
                                       bool packed, const std::string& what);

}  // namespace muonp::core
