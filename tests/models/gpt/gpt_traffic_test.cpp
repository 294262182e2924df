// What a forward and backward pass moves through a GPU's memory, as the stand-in counts the pages that operations touch.
#include <gtest/gtest.h>

#include "cuda_host.h"
#include "tests/models/gpt/tiny_gpt.h"

using namespace muonp;
using namespace muonp::models;
using namespace muonp::models::testing;

namespace {

constexpr std::int64_t kTime = 64;  // the shortest sequence that fused attention takes
constexpr std::int64_t kWords = 50304;

struct Sizes {
  std::int64_t layers = 1, width = 64, vocabulary = 512;
  bool documents = false;  // attention by the kernel of our own
};

// Of one pass, with gradients that are there from the step before.
double bytes_of_a_pass(Instance& gpt, std::int64_t batch, const Sizes& sizes) {
  const core::Tensor ids = gpt.ids(random_ids(batch * kTime, sizes.vocabulary, 1), batch);
  TokenBatch tokens{ids, ids};
  if (sizes.documents) tokens.begins = gpt.ids(std::vector<std::int32_t>(core::at(batch * kTime)), batch);
  gpt.step(tokens);
  const cuda_host::TrafficMeter meter;
  gpt.step(tokens);
  return static_cast<double>(meter.read() + meter.written());
}

// Of one token more: what does not depend on the batch, weights above all, is in both terms of the difference.
double bytes_of_a_token(const Sizes& sizes, const char* logits = "float32", std::int64_t sequences = 16) {
  GptConfig c;
  c.layers = sizes.layers;
  c.heads = sizes.width / 64;
  c.width = sizes.width;
  c.context = kTime;
  c.vocabulary = sizes.vocabulary;
  c.logits_dtype = logits;
  Instance gpt(c, core::Dtype::bfloat16, test::make_test_device());
  const double few = bytes_of_a_pass(gpt, sequences, sizes), many = bytes_of_a_pass(gpt, 2 * sequences, sizes);
  return (many - few) / static_cast<double>(sequences * kTime);
}

// The sums of columns leave partial sums, as many as the device has blocks for; here their number must not depend on the
// batch, as it does not at the batches of a real run.
class OneMultiprocessor {
 public:
  OneMultiprocessor() {
    cuda_host::Settings settings = before_;
    settings.multiprocessors = 1;
    cuda_host::configure(settings);
  }
  ~OneMultiprocessor() { cuda_host::configure(before_); }
  OneMultiprocessor(const OneMultiprocessor&) = delete;
  OneMultiprocessor& operator=(const OneMultiprocessor&) = delete;

 private:
  cuda_host::Settings before_ = cuda_host::settings();
};

// Of twelve layers of 768 and the embeddings: a token's bytes are l·(a + b·w) + c + d·w and what its logits take, for l
// layers of width w.
struct BeforeWords {
  double bytes, of_a_layer, narrow;  // narrow: of one layer of 64, measured
};
BeforeWords before_words(bool documents) {
  const auto measured = [=](std::int64_t layers, std::int64_t width) {
    return bytes_of_a_token({.layers = layers, .width = width, .documents = documents});
  };
  const double narrow = measured(1, 64), wide = measured(1, 192), narrow_layer = measured(2, 64) - narrow,
               wide_layer = measured(2, 192) - wide;
  const double of_layer_width = (wide_layer - narrow_layer) / 128, layer = narrow_layer + 704 * of_layer_width,
               of_width = (wide - wide_layer - (narrow - narrow_layer)) / 128;
  return {12 * layer + 704 * of_width + narrow - narrow_layer, layer, narrow};
}

}  // namespace

// What cuDNN keeps of scores between its own kernels is not the stand-in's to count: two bytes for each of 1,024 scores of 12
// heads in 12 layers, written and read, are 0.6 MB a token.
TEST(GptTraffic, ATokenOfGpt2MovesAtMostThreeMegabytes) {
  const OneMultiprocessor small;
  ASSERT_EQ(test::make_test_device()->kind(), core::DeviceKind::cuda);
  const BeforeWords before = before_words(false);
  for (const char* logits : {"float32", "bfloat16"}) {  // of the whole vocabulary: rows of logits that share no page
    const double words = bytes_of_a_token({.vocabulary = kWords}, logits, 2) - before.narrow, of_gpt2 = before.bytes + words;
    EXPECT_LE(of_gpt2, 3e6) << logits;
    EXPECT_GE(of_gpt2, 2e6) << logits;  // 12 layers of 190 bytes a column are counted
    RecordProperty(logits, std::to_string(of_gpt2));
  }
  RecordProperty("layer", std::to_string(before.of_a_layer));
}

// With documents, whose attention is our own kernel's, a layer moves as much as with cuDNN's, and of its backward pass the
// packed row once more and the gradient of the result twice more, since three operations read them, and five numbers of four
// bytes a head. The gradient of the packed row is written by two operations, which have parts of each page: here it counts
// twice. Scores would be hundreds of bytes for each head.
TEST(GptTraffic, DocumentsMoveNoScores) {
  const OneMultiprocessor small;
  const BeforeWords whole = before_words(false), packed = before_words(true);
  RecordProperty("whole", std::to_string(whole.of_a_layer));
  RecordProperty("packed", std::to_string(packed.of_a_layer));
  const double more = packed.of_a_layer - whole.of_a_layer, expected = 2 * 768 * (3 + 2 + 3) + 4 * 12 * 5;
  EXPECT_LE(more, 1.05 * expected);
  EXPECT_GE(more, 0.5 * expected);  // it is counted
}
