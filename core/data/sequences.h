// What a model trains on, cut into sequences of one length, each read by its number: windows of a text, or examples.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/data/token_file.h"

namespace muonp::core {

// Where sequences are put, one after the other.
struct SequenceSpans {
  std::span<std::int32_t> inputs;
  std::span<std::int32_t> targets;      // what follows each input; −1 is not counted
  std::span<std::int32_t> begins = {};  // the first position of the document that a position belongs to; only of packed ones

  SequenceSpans part(std::int64_t first, std::int64_t count) const;
};

class Sequences {
 public:
  virtual ~Sequences() = default;
  virtual std::int64_t count() const = 0;
  virtual std::int64_t length() const = 0;  // of each, in inputs
  // Whether a sequence may hold several documents, so that its `begins` are needed.
  virtual bool packed() const = 0;
  // Targets of sequence i that are counted.
  virtual std::int64_t counted(std::int64_t i) const = 0;
  // `to` is length() long, its begins empty unless packed(). Error if what is mapped cannot be read any more.
  virtual void read(std::int64_t i, const SequenceSpans& to) const = 0;
};

using SequencesHandle = std::shared_ptr<const Sequences>;

// The stretches [i·length, i·length + length] of the ids: inputs, and targets one later; ids after the last whole one are
// left out. Error unless there is one.
SequencesHandle make_windows(TokenSource tokens, std::int64_t length);

}  // namespace muonp::core
