#include "core/autograd/ops/embedding.h"

#include <gmock/gmock.h>

#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

const std::vector<std::int32_t> kIds = {3, 0, 3, 3, 6, 0, 1, 3};  // [2, 4]: ids repeat, and some never occur

OpCase embedding_case(bool positions) {
  OpCase c;
  c.parameters = {{7, 5}};
  if (positions) c.parameters.push_back({6, 5});  // a context longer than the sequences
  c.op = [=](Tape& tape, const auto&, const auto& p) {
    return ops::embedding(tape, to_ids({2, 4}, kIds), *p[0], positions ? p[1] : nullptr);
  };
  c.reference = [=](const std::vector<Numbers>& v) {
    Numbers y;
    for (std::size_t i = 0; i < kIds.size(); ++i)
      for (std::size_t k = 0; k < 5; ++k)
        y.push_back(v[0][static_cast<std::size_t>(kIds[i]) * 5 + k] + (positions ? v[1][i % 4 * 5 + k] : 0));
    return y;
  };
  return c;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST(Embedding, MatchesReferenceAndDifferences) {
  check_op(embedding_case(true));
  check_op(embedding_case(false));
}

// One id many times, as in text: its rows are added in chunks. Integers, so that any order gives the same.
TEST(Embedding, GradientOfFrequentIdsIsExact) {
  constexpr std::int64_t kTokens = 500;
  for (const std::int64_t width : {5, 64}) {
    std::vector<std::int32_t> ids(kTokens);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = i % 3 == 0 ? static_cast<std::int32_t>(i / 3 % 40) : 41;
    const auto size = static_cast<std::size_t>(kTokens * width);
    Numbers weights(size), expected(static_cast<std::size_t>(43 * width));
    for (std::size_t i = 0; i < size; ++i) {
      weights[i] = static_cast<double>(i % 7) - 3;
      expected[static_cast<std::size_t>(ids[i / static_cast<std::size_t>(width)] * width) +
               i % static_cast<std::size_t>(width)] += weights[i];
    }
    auto device = make_test_device();
    Parameter table;
    table.name = "table";
    table.shape = {43, width};
    PlainParameters plain(*device, {&table}, Dtype::float32, 1);
    Tape tape(*device, true);
    const Variable y = ops::embedding(tape, to_ids({2, kTokens / 2}, ids), table, nullptr);
    tape.backward(weighted_sum(tape, y, weights), 1, {&table}, plain);
    EXPECT_EQ(to_numbers(table.gradient), expected);
  }
}

TEST(Embedding, IdOutsideTheVocabularyIsNamedWithItsPlace) {
  const auto check = [](std::vector<std::int32_t> ids, bool ignored) {
    return message_of([&] { ops::check_tokens(to_ids({2, 3}, ids), 50, ignored, "token"); });
  };
  EXPECT_THAT(check({1, 2, 3, 4, 50, 6}, false),
              ::testing::HasSubstr("token 50 at sequence 1, position 1 is outside the model's vocabulary of 50"));
  EXPECT_THAT(check({-1, 2, 3, 4, 5, 6}, false), ::testing::HasSubstr("token -1 at sequence 0, position 0"));
  EXPECT_THAT(check({-2, 2, 3, 4, 5, 6}, true), ::testing::HasSubstr("token -2"));
  EXPECT_EQ(check({-1, 2, 3, 4, 49, 0}, true), "nothing was thrown");
}

TEST(Embedding, GradientIsTheSameForAnyNumberOfThreads) {  // of the CPU
  constexpr std::int64_t kTokens = 600, kWidth = 64;
  std::vector<std::int32_t> ids(kTokens);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(random_below(3, 1, i, 20));
  Numbers weights(kTokens * kWidth);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = normal(3, 2, i);
  std::vector<Numbers> gradients;
  for (const int threads : {1, 2, 3}) {
    auto device = make_cpu_test_device(threads);
    Parameter table;
    table.name = "table";
    table.shape = {20, kWidth};
    PlainParameters plain(*device, {&table}, Dtype::float32, 1);
    Tape tape(*device, true);
    const Variable y = ops::embedding(tape, to_ids({2, 300}, ids), table, nullptr);
    tape.backward(weighted_sum(tape, y, weights), 1, {&table}, plain);
    gradients.push_back(to_numbers(table.gradient));
  }
  EXPECT_EQ(gradients[0], gradients[1]);
  EXPECT_EQ(gradients[0], gradients[2]);
}
