#include "core/data/sequences.h"

#include "core/base/error.h"

namespace muonp::core {
namespace {

class Windows final : public Sequences {
 public:
  Windows(TokenSource tokens, std::int64_t length) : tokens_(std::move(tokens)), length_(length) {
    if (tokens_.size() <= length)
      fail("the data has {} tokens; one sequence of {} needs {}", tokens_.size(), length, length + 1);
  }
  std::int64_t count() const override { return (tokens_.size() - 1) / length_; }
  std::int64_t length() const override { return length_; }
  bool packed() const override { return false; }
  std::int64_t counted(std::int64_t) const override { return length_; }
  void read(std::int64_t i, const SequenceSpans& to) const override {
    tokens_.read(i * length_, length_, to.inputs.data());
    tokens_.read(i * length_ + 1, length_, to.targets.data());
  }

 private:
  TokenSource tokens_;
  std::int64_t length_;
};

}  // namespace

SequenceSpans SequenceSpans::part(std::int64_t first, std::int64_t count) const {
  const auto cut = [&](std::span<std::int32_t> all) {
    return all.empty() ? all : all.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  };
  return {cut(inputs), cut(targets), cut(begins)};
}

SequencesHandle make_windows(TokenSource tokens, std::int64_t length) {
  return std::make_shared<Windows>(std::move(tokens), length);
}

}  // namespace muonp::core
