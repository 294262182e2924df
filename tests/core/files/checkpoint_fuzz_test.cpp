// The fuzzer's corpus and a few thousand seeded mutations of it, without a fuzzer.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/files/files.h"
#include "tests/support/temporary_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace muonp::test {
namespace {

void run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

std::vector<std::string> corpus() {
  std::vector<std::string> inputs;
  for (const std::string& name : core::list_directory(MUONP_FUZZ_CORPUS))
    inputs.push_back(get(std::string(MUONP_FUZZ_CORPUS) + "/" + name));
  return inputs;
}

// One change of a random kind: a bit, a byte, a stretch removed, doubled or taken from another input, a
// number that is hard to hold. The kind of file, which the first byte says, stays.
class Mutator {
 public:
  Mutator(const std::vector<std::string>& inputs, std::uint64_t seed) : inputs_(inputs), seed_(seed) {}

  std::string operator()(std::string s) {
    static const std::vector<std::string> hard{"-1",
                                               "18446744073709551615",
                                               "9223372036854775807",
                                               "1e308",
                                               "0.5",
                                               "null",
                                               "[]",
                                               "{}",
                                               "\"\"",
                                               "\xff",
                                               std::string(1, '\0'),
                                               "\\u0000",
                                               "[[[["};
    const std::uint64_t at = 1 + below(s.size()), length = below(17);
    switch (below(6)) {
      case 0:
        if (at < s.size()) s[at] = static_cast<char>(s[at] ^ (1 << below(8)));
        return s;
      case 1:
        if (at < s.size()) s[at] = static_cast<char>(below(256));
        return s;
      case 2:
        return s.erase(at, length);
      case 3:
        return s.insert(at, s.substr(at, length));
      case 4: {
        const std::string& other = inputs_[below(inputs_.size())];
        return s.insert(at, other.substr(below(other.size()), length));
      }
      default:
        return s.replace(at, length / 4, hard[below(hard.size())]);
    }
  }
  std::uint64_t below(std::uint64_t bound) { return core::random_below(seed_, 0, count_++, bound); }

 private:
  const std::vector<std::string>& inputs_;
  std::uint64_t seed_, count_ = 0;
};

TEST(CheckpointFuzz, TheCorpusIsReadOrRefused) {
  const std::vector<std::string> inputs = corpus();
  EXPECT_GE(inputs.size(), 10u);
  for (const std::string& input : inputs) run(input);
}

TEST(CheckpointFuzz, SeededMutationsAreReadOrRefused) {
  const std::vector<std::string> inputs = corpus();
  Mutator mutate(inputs, 41);
  for (int i = 0; i < 6000; ++i) {
    std::string input = inputs[mutate.below(inputs.size())];
    for (std::uint64_t changes = 1 + mutate.below(4); changes > 0; --changes) input = mutate(std::move(input));
    run(input);
  }
}

}  // namespace
}  // namespace muonp::test
