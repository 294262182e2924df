#include "core/autograd/ops/head_loss.h"

#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

using Ids = std::vector<std::int32_t>;

Numbers reference(const std::vector<Numbers>& v, const Ids& targets, std::size_t width, std::size_t vocabulary) {
  double total = 0;
  int counted = 0;
  for (std::size_t r = 0; r < targets.size(); ++r) {
    if (targets[r] < 0) continue;
    double sum = 0, at_target = 0;
    for (std::size_t k = 0; k < vocabulary; ++k) {
      double logit = 0;
      for (std::size_t c = 0; c < width; ++c) logit += v[0][r * width + c] * v[1][k * width + c];
      sum += std::exp(logit);
      if (std::int32_t(k) == targets[r]) at_target = logit;
    }
    total += std::log(sum) - at_target;
    ++counted;
  }
  return {counted ? total / counted : 0.0};
}

OpCase head_case(const Ids& targets, std::int64_t width, std::int64_t vocabulary, std::int64_t chunk) {
  OpCase c;
  const auto rows = std::int64_t(targets.size());
  c.inputs = {{rows, width}};
  c.parameters = {{vocabulary, width}};
  c.op = [=](Tape& tape, const auto& x, const auto& p) {
    return ops::head_loss(tape, x[0], *p[0], to_ids({rows}, targets), chunk);
  };
  c.reference = [=](const std::vector<Numbers>& v) {
    return reference(v, targets, std::size_t(width), std::size_t(vocabulary));
  };
  return c;
}

}  // namespace

TEST(HeadLoss, MatchesReferenceAndDifferencesForEveryChunkSize) {
  const Ids targets = {4, 0, -1, 10, 3, -1, 7};
  for (const std::int64_t chunk : {0, 1, 2, 3, 6, 7, 100}) {
    SCOPED_TRACE(chunk);
    check_op(head_case(targets, 5, 11, chunk));
  }
}

TEST(HeadLoss, VocabularyLargerThanOneBlockOfTheGradient) { check_op(head_case({4, 515, -1, 512, 511}, 1, 520, 2)); }

// The loss and its gradients are those of logits that were rounded, whatever chunks they come in.
TEST(HeadLoss, Bfloat16LogitsAreRoundedOnce) {
  auto device = make_test_device(2, Bfloat16::emulated);
  constexpr std::int64_t kRows = 5, kWidth = 8, kWords = 531;
  const Ids targets = {3, 530, -1, 7, 512};
  Parameter weight;
  weight.name = "head";
  weight.shape = {kWords, kWidth};
  const auto rounded = [](Numbers values) {
    for (double& v : values) v = double(float(bfloat16(float(v))));
    return values;
  };
  const Numbers x = rounded(random_numbers({kRows, kWidth}, 1)), w = rounded(random_numbers({kWords, kWidth}, 2));
  Numbers dx(x.size(), 0), logits(at(kRows * kWords));
  double loss = 0;
  for (std::int64_t r = 0; r < kRows; ++r) {
    double sum = 0;
    for (std::int64_t k = 0; k < kWords; ++k) {
      double logit = 0;
      for (std::int64_t c = 0; c < kWidth; ++c) logit += x[at(r * kWidth + c)] * w[at(k * kWidth + c)];
      logits[at(r * kWords + k)] = double(float(bfloat16(float(logit))));
      sum += std::exp(logits[at(r * kWords + k)]);
    }
    if (targets[at(r)] < 0) continue;
    loss += (std::log(sum) - logits[at(r * kWords + targets[at(r)])]) / 4;
    for (std::int64_t k = 0; k < kWords; ++k) {
      const double slope = (std::exp(logits[at(r * kWords + k)]) / sum - (k == targets[at(r)] ? 1 : 0)) / 4;
      for (std::int64_t c = 0; c < kWidth; ++c) dx[at(r * kWidth + c)] += slope * w[at(k * kWidth + c)];
    }
  }
  for (const std::int64_t chunk : {0, 2}) {
    PlainParameters plain(*device, {&weight}, Dtype::bfloat16, 1);
    set_values(weight.value, std::vector<bfloat16>(w.begin(), w.end()));
    Tape tape(*device, true);
    const Variable in = tape.variable(to_tensor(*device, {kRows, kWidth}, Dtype::bfloat16, x));
    const Variable out = ops::head_loss(tape, in, weight, to_ids({kRows}, targets), chunk, Dtype::bfloat16);
    // A logit that lies between two numbers may be rounded to the other one by a float32 sum: one of a row at most matters.
    EXPECT_NEAR(double(value_of(out->value)), loss, 1e-3 * loss);
    tape.backward(out, 1, {&weight}, plain);
    const Numbers got = to_numbers(in->gradient->tensor);
    double largest = 0;
    for (const double v : dx) largest = std::max(largest, std::abs(v));
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], dx[i], 0x1p-7 * largest) << i;
  }
}

// Words that do not fill whole 16 bytes: a GPU takes the last ones apart.
TEST(HeadLoss, VocabulariesOfEverySizeMatchTheReference) {
  for (const std::int64_t words : {7, 15, 16, 17, 23, 24, 25})
    check_op(head_case({3, static_cast<std::int32_t>(words - 1), -1, 6, 5}, 1, words, 2));
}

TEST(HeadLoss, NothingCountedGivesZeroAndZeroGradients) { check_op(head_case({-1, -1, -1}, 4, 6, 0)); }

TEST(HeadLoss, TargetOutsideTheVocabularyIsNamed) {
  auto device = make_test_device(1);
  Parameter weight;
  weight.name = "head";
  weight.shape = {5, 2};
  PlainParameters plain(*device, {&weight}, Dtype::float32, 1);
  Tape tape(*device, true);
  const Variable x = tape.variable(Tensor::zeros(*device, {1, 3, 2}, Dtype::float32, Category::other));
  try {
    ops::head_loss(tape, x, weight, to_ids({1, 3}, {4, 5, -1}));
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("target 5 at sequence 0, position 1"), std::string::npos) << e.what();
  }
}

TEST(HeadLoss, ChunksBoundTheMemory) {
  auto device = make_test_device(2);
  Parameter weight;
  weight.name = "head";
  weight.shape = {1000, 4};
  weight.init = {Initializer::Kind::normal, 1};
  PlainParameters plain(*device, {&weight}, Dtype::float32, 1);
  const auto run = [&](std::int64_t chunk) {
    device->allocator()->reset_peak();
    Tape tape(*device, true);
    const Variable x = tape.variable(Tensor::zeros(*device, {100, 4}, Dtype::float32, Category::other));
    const Variable loss = ops::head_loss(tape, x, weight, to_ids({100}, Ids(100, 3)), chunk);
    plain.start_step();
    tape.backward(loss, 1, {&weight}, plain);
    return device->allocator()->use().peak_of(Category::activations);
  };
  EXPECT_LT(run(0), 100 * 1000 * 4 * 1.05);
  EXPECT_LT(run(10), 10 * 1000 * 4 * 1.15);
  Tape tape(*device, false);  // without recording nothing stays
  ops::head_loss(tape, tape.constant(Tensor::zeros(*device, {100, 4}, Dtype::float32, Category::other)), weight,
                 to_ids({100}, Ids(100, 3)), 10);
  EXPECT_EQ(device->allocator()->use().of(Category::activations), 0);
}

TEST(HeadLoss, HugeLogitsStayFinite) {
  auto device = make_test_device(1);
  Parameter weight;
  weight.name = "head";
  weight.shape = {2, 1};
  PlainParameters plain(*device, {&weight}, Dtype::float32, 1);
  set_values<float>(weight.value, {1e4f, -1e4f});
  Tape tape(*device, true);
  const Variable x = tape.variable(to_tensor(*device, {2, 1}, Dtype::float32, {1, 1}));
  const Variable loss = ops::head_loss(tape, x, weight, to_ids({2}, {0, 1}));
  EXPECT_EQ(value_of(loss->value), 1e4f);  // (0 + 2e4) / 2
  tape.backward(loss, 1, {&weight}, plain);
  for (const double g : to_numbers(weight.gradient)) EXPECT_TRUE(std::isfinite(g));
}
