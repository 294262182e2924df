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
};

// Of one pass, with gradients that are there from the step before.
double bytes_of_a_pass(Instance& gpt, std::int64_t batch, std::int64_t vocabulary) {
  const core::Tensor ids = gpt.ids(random_ids(batch * kTime, vocabulary, 1), batch);
  gpt.step({ids, ids});
  const cuda_host::TrafficMeter meter;
  gpt.step({ids, ids});
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
  const double few = bytes_of_a_pass(gpt, sequences, c.vocabulary), many = bytes_of_a_pass(gpt, 2 * sequences, c.vocabulary);
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

}  // namespace

// A token's bytes are l·(a + b·w) + c + d·w and what its logits take, for l layers of width w. What cuDNN keeps of scores
// between its own kernels is not the stand-in's to count: two bytes for each of 1,024 scores of 12 heads in 12 layers,
// written and read, are 0.6 MB a token.
TEST(GptTraffic, ATokenOfGpt2MovesAtMostThreeMegabytes) {
  const OneMultiprocessor small;
  ASSERT_EQ(test::make_test_device()->kind(), core::DeviceKind::cuda);
  const double narrow = bytes_of_a_token({}), wide = bytes_of_a_token({.width = 192}),
               narrow_layer = bytes_of_a_token({.layers = 2}) - narrow,
               wide_layer = bytes_of_a_token({.layers = 2, .width = 192}) - wide;
  const double of_layer_width = (wide_layer - narrow_layer) / 128, of_layer = narrow_layer - 64 * of_layer_width,
               of_width = (wide - wide_layer - (narrow - narrow_layer)) / 128;
  const double before_words = 12 * (of_layer + 768 * of_layer_width) + 704 * of_width + narrow - narrow_layer;
  for (const char* logits : {"float32", "bfloat16"}) {  // of the whole vocabulary: rows of logits that share no page
    const double words = bytes_of_a_token({.vocabulary = kWords}, logits, 2) - narrow, of_gpt2 = before_words + words;
    EXPECT_LE(of_gpt2, 3e6) << logits;
    EXPECT_GE(of_gpt2, 2e6) << logits;  // 12 layers of 200 bytes a column are counted
    RecordProperty(logits, std::to_string(of_gpt2));
  }
  RecordProperty("layer", std::to_string(of_layer + 768 * of_layer_width));
}
