// Evaluations of a model whose likelihoods are known, by several numbers of ranks.
#include <gmock/gmock.h>

#include <bit>
#include <cmath>

#include "core/files/files.h"
#include "dist/comm/local.h"
#include "launch/evaluation/answer_pattern.h"
#include "launch/evaluation/pass_at_k.h"
#include "launch/evaluation/task.h"
#include "tests/launch/evaluation/bigram_model.h"
#include "tests/support/device_ranks.h"
#include "tests/support/temporary_folder.h"

namespace muonp::launch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Not a simple function of either token.
float logit(std::int32_t token, std::int32_t next) {
  return static_cast<float>((token * 31 + next * 17 + token * next) % 97) / 16.0f;
}

class Evaluation : public testing::Test {
 protected:
  static constexpr std::int64_t kContext = 16;
  test::BigramModel model_{256, kContext, logit};
  test::TemporaryFolder folder_;

  std::string write(const std::string& name, const std::string& content) const {
    core::write_file(folder_.path() + "/" + name, content);
    return folder_.path() + "/" + name;
  }
  static TaskConfig task(const std::string& kind, const std::string& file) {
    TaskConfig config;
    config.kind = kind;
    config.file = file;
    config.batch = 2;
    return config;
  }
  // The same numbers on every rank; with `together`, as many passes as well.
  TaskNumbers run(const TaskConfig& config, int ranks = 1, const test::BigramModel::Logit& of = logit, bool together = false,
                  std::vector<TaskAnswer>* answers = nullptr) const {
    std::vector<TaskNumbers> numbers(static_cast<std::size_t>(ranks));
    std::vector<std::int64_t> passes(static_cast<std::size_t>(ranks));
    test::run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
      test::BigramModel model(256, kContext, of);
      Subject subject{
          .device = device, .communicator = communicator, .model = model, .tokenizer = core::make_byte_tokenizer()};
      subject.stop_tokens = {0};
      subject.passes_together = together;
      subject.open_pass = [&] { return core::Tape(device, false); };
      const auto rank = static_cast<std::size_t>(communicator.rank());
      std::vector<TaskAnswer> mine;
      numbers[rank] = open_task(config, {}, subject)->run(subject, {}, &mine);
      passes[rank] = model.passes;
      if (answers != nullptr && rank == 0) *answers = mine;
    });
    for (const TaskNumbers& other : numbers)
      for (std::size_t i = 0; i < other.size(); ++i) EXPECT_EQ(other[i].value, numbers.front()[i].value) << other[i].name;
    if (together) {
      EXPECT_THAT(passes, ::testing::Each(passes.front()));
    }
    return numbers.front();
  }
  static double value(const TaskNumbers& numbers, const std::string& name) {
    for (const TaskNumber& number : numbers)
      if (number.name == name) return number.value;
    ADD_FAILURE() << "no " << name;
    return NAN;
  }
  void expect_refused(const TaskConfig& config, const std::vector<std::string>& words) const {
    try {
      run(config);
      ADD_FAILURE() << "not refused: " << words.front();
    } catch (const core::Error& error) {
      for (const std::string& word : words) EXPECT_THAT(error.what(), HasSubstr(word));
    }
  }
};

// Every token but the first once, whatever the windows: what a token costs depends here on the one before it alone.
TEST_F(Evaluation, ATextCostsTheSumOfItsTokensWhateverTheWindows) {
  const std::string text = "the sun rises over the sea, and the sea is dark.\n";
  const TaskConfig whole = task("text", write("text.txt", text));
  double expected = 0;
  for (std::size_t i = 1; i < text.size(); ++i) expected += model_.loss_of(text[i - 1], text[i]);
  expected /= static_cast<double>(text.size() - 1);
  for (const std::int64_t window : {0, 2, 7, 16})
    for (const std::int64_t stride : {0, 1, 5, 15}) {
      if (stride >= (window == 0 ? kContext : window)) continue;
      TaskConfig config = whole;
      config.window = window;
      config.stride = stride;
      const TaskNumbers numbers = run(config);
      EXPECT_NEAR(value(numbers, "loss"), expected, 1e-6 * expected) << window << " " << stride;
      EXPECT_EQ(value(numbers, "tokens"), static_cast<double>(text.size() - 1));
      EXPECT_NEAR(value(numbers, "perplexity"), std::exp(expected), 1e-5 * std::exp(expected));
    }
}

// Which tokens are seen for which target: those of the window that ends with it or behind it first.
TEST_F(Evaluation, WindowsSeeWhatTheySay) {
  TaskConfig config = task("text", write("ten.txt", "0123456789"));
  config.window = 6;
  config.stride = 3;
  const auto device = test::make_cpu_test_device(1);
  const auto alone = dist::make_local();
  test::BigramModel model(256, kContext, logit);
  const Subject subject{.device = *device, .communicator = *alone, .model = model, .tokenizer = core::make_byte_tokenizer()};
  const TextWindows windows(config, subject);
  ASSERT_EQ(windows.count(), 3);  // 012345, 345678, 6789
  std::vector<std::string> seen;
  for (std::int64_t w = 0; w < 3; ++w) {
    std::vector<std::int32_t> inputs(5), targets(5);
    windows.read(w, inputs, targets);
    for (std::size_t t = 0; t < 5; ++t) {
      if (targets[t] < 0) continue;
      seen.push_back(std::string(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(t) + 1) + ">" +
                     static_cast<char>(targets[t]));
    }
  }
  EXPECT_THAT(seen,
              testing::ElementsAre("0>1", "01>2", "012>3", "0123>4", "01234>5", "345>6", "3456>7", "34567>8", "678>9"));
  EXPECT_EQ(windows.first().size(), 6u);
  EXPECT_EQ(first_logits(windows, subject).size(), 6u * 256);
  EXPECT_EQ(first_logits(windows, subject)[5 * 256 + 7], logit('5', 7));
}

TEST_F(Evaluation, ChoicesAreJudgedByLikelihoodAndByLikelihoodAByte) {
  const std::string lines = R"({"question": "ab", "choices": ["x", "yyyyyy", "zz"], "answer": 1})"
                            "\n"
                            R"({"question": "abc", "choices": ["q", "rrr"], "answer": "A"})"
                            "\n"
                            R"({"question": "c", "choices": ["mm", "n", "oooo"], "answer": "oooo"})"
                            "\n";
  const TaskConfig config = task("choices", write("choices.jsonl", lines));
  const auto cost = [&](const std::string& question, const std::string& choice) {
    const std::string whole = question + " " + choice;
    double sum = 0;
    for (std::size_t i = question.size(); i < whole.size(); ++i) sum += model_.loss_of(whole[i - 1], whole[i]);
    return sum;
  };
  const auto right = [&](const std::string& question, const std::vector<std::string>& choices, std::size_t answer,
                         bool norm) {
    std::size_t best = 0;
    const auto score = [&](std::size_t i) {
      return cost(question, choices[i]) / (norm ? static_cast<double>(choices[i].size()) : 1.0);
    };
    for (std::size_t i = 1; i < choices.size(); ++i)
      if (score(i) < score(best)) best = i;
    return best == answer ? 1.0 : 0.0;
  };
  for (const bool norm : {false, true}) {
    const double expected = (right("ab", {"x", "yyyyyy", "zz"}, 1, norm) + right("abc", {"q", "rrr"}, 0, norm) +
                             right("c", {"mm", "n", "oooo"}, 2, norm)) /
                            3;
    for (const int ranks : {1, 2, 3, 4}) EXPECT_EQ(value(run(config, ranks), norm ? "acc_norm" : "acc"), expected) << ranks;
  }
}

// One choice is likelier, the other likelier a byte.
TEST_F(Evaluation, LengthIsWhatTellsTheTwoAccuraciesApart) {
  // Every token costs about ln 256, but a 'b' after a 'b' nothing.
  const auto of = [](std::int32_t token, std::int32_t next) { return token == 'b' && next == 'b' ? 30.0f : 0.0f; };
  const TaskConfig config =
      task("choices", write("two.jsonl", R"({"question": "?", "choices": ["a", "bbbb", "cc"], "answer": "B"})"));
  TaskConfig direct = config;
  direct.choice = "{choice}";
  EXPECT_EQ(value(run(direct, 1, of), "acc"), 0);  // a and bbbb cost the same, and the first counts
  EXPECT_EQ(value(run(direct, 1, of), "acc_norm"), 1);
}

// After a letter comes the next one; after a z the text ends.
float alphabet(std::int32_t token, std::int32_t next) { return next == (token == 'z' ? 0 : token + 1) ? 9.0f : 0.0f; }

TEST_F(Evaluation, AnswersAreComparedByThePatternsLastMatch) {
  const std::string lines = R"({"prompt": "w", "completion": "xyz"})"
                            "\n"
                            R"({"prompt": "aab", "completion": "no c but d"})"
                            "\n"
                            R"({"prompt": "q", "completion": "q"})"
                            "\n";
  TaskConfig config = task("exact", write("exact.jsonl", lines));
  config.tokens = 5;
  std::vector<TaskAnswer> answers;
  EXPECT_NEAR(value(run(config, 2, alphabet, false, &answers), "exact"), 1.0 / 3, 1e-12);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].answer, "xyz");  // it ends with the stop token
  EXPECT_EQ(answers[1].answer, "cdefg");
  EXPECT_EQ(answers[2].answer, "rstuv");
  config.pattern = "[a-d]|[q-z]+";
  EXPECT_NEAR(value(run(config, 1, alphabet, false, &answers), "exact"), 2.0 / 3, 1e-12);
  EXPECT_EQ(answers[1].found, "d");
  config.stop = {"de"};
  run(config, 1, alphabet, false, &answers);
  EXPECT_EQ(answers[1].answer, "c");
}

// Sampled, with prompts of unequal lengths and more ranks than batches: the answers are those of one rank, and at stage 3
// all ranks make as many passes.
TEST_F(Evaluation, AnswersAreTheSameAtAnyNumberOfRanks) {
  std::string lines;
  for (int i = 0; i < 5; ++i)
    lines +=
        fmt::format(R"({{"prompt": "{}", "completion": "f"}})", std::string(static_cast<std::size_t>(i + 1), 'e')) + "\n";
  TaskConfig config = task("exact", write("sampled.jsonl", lines));
  config.tokens = 6;
  config.temperature = 4;
  config.samples = 3;
  config.pass = 2;
  config.pattern = "^.";
  std::vector<TaskAnswer> one, other;
  const TaskNumbers expected = run(config, 1, alphabet, false, &one);
  EXPECT_EQ(one.size(), 15u);
  EXPECT_NE(one[0].answer, one[1].answer);
  EXPECT_GT(value(expected, "pass@2"), value(expected, "exact"));
  for (const int ranks : {2, 3, 5})
    for (const bool together : {false, true}) {
      EXPECT_EQ(value(run(config, ranks, alphabet, together, &other), "exact"), value(expected, "exact")) << ranks;
      ASSERT_EQ(other.size(), one.size());
      for (std::size_t i = 0; i < one.size(); ++i) EXPECT_EQ(other[i].answer, one[i].answer) << ranks << " " << i;
    }
  config.seed = 2;
  run(config, 1, alphabet, false, &other);
  EXPECT_NE(other[0].answer + other[1].answer + other[2].answer, one[0].answer + one[1].answer + one[2].answer);
}

// An Error of one rank alone, while the others still work.
TEST_F(Evaluation, AFailureOfOneRankIsEverybodys) {
  const auto broken = [](std::int32_t token, std::int32_t next) { return token == 'd' ? NAN : alphabet(token, next); };
  TaskConfig config = task("exact", write("broken.jsonl",
                                          "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                                          "{\"prompt\": \"j\", \"completion\": \"b\"}\n"));
  config.batch = 1;
  config.tokens = 12;
  for (const bool together : {false, true}) EXPECT_THROW(run(config, 2, broken, together), std::exception);
}

TEST_F(Evaluation, BadInputIsNamed) {
  expect_refused(task("text", write("empty.txt", "")), {"empty.txt", "0 tokens", "takes 2"});
  expect_refused(task("text", folder_.path() + "/none.txt"), {"none.txt"});
  TaskConfig wide = task("text", write("wide.txt", "abcdef"));
  wide.window = 17;
  expect_refused(wide, {"wide", "window of 17", "context of 16"});
  wide.window = 4;
  wide.stride = 4;
  expect_refused(wide, {"stride of 4", "less than the window of 4"});

  const auto choices = [&](const std::string& line) { return task("choices", write("c.jsonl", "\n" + line + "\n")); };
  expect_refused(task("choices", write("none.jsonl", " \n")), {"none.jsonl", "no line"});
  expect_refused(choices("{"), {"c.jsonl:2", "JSON"});
  expect_refused(choices(R"({"question": "a", "answer": 0})"), {"c.jsonl:2", "no choices"});
  expect_refused(choices(R"({"question": "a", "choices": ["b"], "answer": 0})"), {"at least two"});
  expect_refused(choices(R"({"question": "a", "choices": ["b", 3], "answer": 0})"), {"choice 1 is 3"});
  expect_refused(choices(R"({"query": "a", "choices": ["b", "c"], "answer": 0})"), {"c.jsonl:2", "no question"});
  for (const char* answer : {"2", "-1", "\"C\"", "\"x\"", "null", "0.5"})
    expect_refused(choices(fmt::format(R"({{"question": "a", "choices": ["b", "c"], "answer": {}}})", answer)),
                   {"c.jsonl:2", "is none of the 2 choices"});
  expect_refused(choices(R"({"question": "a", "choices": ["b", "a long choice indeed"], "answer": 0})"),
                 {"c.jsonl:2", "22 tokens", "context is 16"});
  TaskConfig follows = choices(R"({"question": "a", "choices": ["b", "c"], "answer": 0})");
  follows.choice = "Answer:";
  expect_refused(follows, {"choice: 'Answer:'", "{choice}"});

  const auto exact = [&](const std::string& line) { return task("exact", write("e.jsonl", line + "\n")); };
  expect_refused(exact(R"({"text": "a"})"), {"e.jsonl:1", "prompt and completion"});
  expect_refused(exact(R"({"prompt": "", "completion": "a"})"), {"e.jsonl:1", "the prompt is empty"});
  expect_refused(exact(R"({"prompt": "0123456789abcdef", "completion": "a"})"), {"e.jsonl:1", "16 tokens", "context of 16"});
  expect_refused(exact(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"),
                 {"e.jsonl:1", "no chat template"});
  TaskConfig pattern = exact(R"({"prompt": "a", "completion": "b"})");
  pattern.pattern = "[";
  expect_refused(pattern, {"e: pattern", "'['", "no regular expression", "character 1"});
  pattern.pattern = "[0-9]";
  expect_refused(pattern, {"e.jsonl:1", "finds nothing in the reference 'b'"});
  TaskConfig samples = exact(R"({"prompt": "a", "completion": "b"})");
  samples.samples = 2;
  expect_refused(samples, {"2 samples at temperature 0"});
  samples.temperature = 1;
  samples.pass = 3;
  expect_refused(samples, {"pass@3 needs at least 3 samples"});
}

// All ways to draw k of n answers.
TEST(PassAtK, IsTheShareOfDrawsWithARightAnswer) {
  for (int n = 1; n <= 10; ++n)
    for (int c = 0; c <= n; ++c)
      for (int k = 1; k <= n; ++k) {
        int draws = 0, good = 0;
        for (unsigned drawn = 0; drawn < 1u << n; ++drawn) {
          if (std::popcount(drawn) != k) continue;
          ++draws;
          good += (drawn & ((1u << c) - 1)) != 0;
        }
        EXPECT_NEAR(pass_at_k(n, c, k), static_cast<double>(good) / draws, 1e-12) << n << " " << c << " " << k;
      }
  EXPECT_NEAR(pass_at_k(1000000, 1, 1000), 1e-3, 1e-9);
}

TEST(AnswerPattern, TakesGroupOneOfTheLastMatch) {
  EXPECT_EQ(AnswerPattern("", "p").find("  all of it \n"), "all of it");
  EXPECT_EQ(AnswerPattern("-?[0-9]+", "p").find("from 3 to -12."), "-12");
  EXPECT_EQ(AnswerPattern("#### (.*)", "p").find("#### 1\n#### 2 \nend"), "2");
  EXPECT_EQ(AnswerPattern("(x)?y", "p").find("xy y"), "y");  // the group took no part
  EXPECT_EQ(AnswerPattern("[0-9]+", "p").find("none"), std::nullopt);
  EXPECT_EQ(AnswerPattern("\\w+", "p").find("\xC3\xA4hm"), "\xC3\xA4hm");
  EXPECT_EQ(AnswerPattern("b+", "p").find("\xFF\xFE"
                                          "bb\xFF"),
            "bb");  // no UTF-8 around it
  EXPECT_THROW(AnswerPattern("(", "p"), core::Error);
}

}  // namespace
}  // namespace muonp::launch
