#include "core/data/finetuning/example_sequences.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/data/finetuning/packing.h"

namespace muonp::core {
namespace {

// Puts a document at position `at` of a sequence; returns the position behind it.
std::int64_t put_document(const std::vector<std::int32_t>& ids, std::int64_t at, const SequenceSpans& to) {
  const auto begin = static_cast<std::int32_t>(at);
  for (std::size_t i = 0; i + 1 < ids.size(); ++i, ++at) {
    const auto t = static_cast<std::size_t>(at);
    to.inputs[t] = id_of_marked(ids[i]);
    to.targets[t] = std::max(ids[i + 1], -1);
    if (!to.begins.empty()) to.begins[t] = begin;
  }
  return at;
}

void put_padding(std::int64_t at, const SequenceSpans& to) {
  const auto rest = static_cast<std::size_t>(at);
  std::ranges::fill(to.inputs.subspan(rest), 0);
  std::ranges::fill(to.targets.subspan(rest), -1);
  if (!to.begins.empty()) std::ranges::fill(to.begins.subspan(rest), static_cast<std::int32_t>(at));
}

class SingleExamples final : public Sequences {
 public:
  SingleExamples(ExampleStore store, std::int64_t begin, std::int64_t end, std::int64_t length)
      : store_(std::move(store)), begin_(begin), end_(end), length_(length) {}
  std::int64_t count() const override { return end_ - begin_; }
  std::int64_t length() const override { return length_; }
  bool packed() const override { return false; }
  std::int64_t counted(std::int64_t i) const override { return store_.counted(begin_ + i); }
  void read(std::int64_t i, const SequenceSpans& to) const override {
    std::vector<std::int32_t> ids;
    store_.read(begin_ + i, ids);
    put_padding(put_document(ids, 0, to), to);
  }

 private:
  ExampleStore store_;
  std::int64_t begin_, end_, length_;
};

std::vector<std::int32_t> lengths_of(const ExampleStore& store, std::int64_t begin, std::int64_t end) {
  std::vector<std::int32_t> lengths;
  for (std::int64_t d = begin; d < end; ++d) lengths.push_back(static_cast<std::int32_t>(store.tokens(d) - 1));
  return lengths;
}

class PackedExamples final : public Sequences {
 public:
  PackedExamples(ExampleStore store, std::int64_t begin, std::int64_t end, std::int64_t length)
      : store_(std::move(store)), begin_(begin), length_(length), packing_(pack(lengths_of(store_, begin, end), length)) {}
  std::int64_t count() const override { return packing_.sequences(); }
  std::int64_t length() const override { return length_; }
  bool packed() const override { return true; }
  std::int64_t counted(std::int64_t i) const override {
    std::int64_t count = 0;
    for (const std::int32_t d : documents(i)) count += store_.counted(begin_ + d);
    return count;
  }
  void read(std::int64_t i, const SequenceSpans& to) const override {
    std::vector<std::int32_t> ids;
    std::int64_t at = 0;
    for (const std::int32_t d : documents(i)) {
      store_.read(begin_ + d, ids);
      at = put_document(ids, at, to);
    }
    put_padding(at, to);
  }

 private:
  std::span<const std::int32_t> documents(std::int64_t i) const {
    const std::int64_t first = packing_.begins[at(i)], last = packing_.begins[at(i + 1)];
    return std::span(packing_.documents).subspan(at(first), at(last - first));
  }

  ExampleStore store_;
  std::int64_t begin_, length_;
  Packing packing_;
};

}  // namespace

SequencesHandle make_example_sequences(const ExampleStore& store, std::int64_t begin, std::int64_t end, std::int64_t length,
                                       bool packed, const std::string& what) {
  if (begin == end) fail("{} has no example", what);
  if (store.counts().longest > length + 1)
    fail("{}: an example of {} tokens does not fit into a sequence of {} (data.sequence)", what, store.counts().longest,
         length);
  if (packed) return std::make_shared<PackedExamples>(store, begin, end, length);
  return std::make_shared<SingleExamples>(store, begin, end, length);
}

}  // namespace muonp::core
