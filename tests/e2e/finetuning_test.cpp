// Training on JSONL: the same losses however a step is shared out, and one clear message for what is broken.
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Finetuning : public ProgramTest {
 protected:
  // Completions of 1 to 24 bytes: micro-batches that count very unequally.
  void SetUp() override {
    ProgramTest::SetUp();
    std::string lines, questions;
    for (int i = 0; i < 90; ++i) {
      const std::string prompt = fmt::format("{}+{}=", i, i * i % 7),
                        answer(static_cast<std::size_t>(1 + i * i % 24), static_cast<char>('a' + i % 5));
      lines += nlohmann::json{{"prompt", prompt}, {"completion", answer}}.dump() + "\n";
      questions += nlohmann::json{{"question", prompt}, {"answer", answer}}.dump() + "\n";
    }
    write("pairs.jsonl", lines);
    write("questions.jsonl", questions);
  }

  static std::vector<std::string> settings(const std::vector<std::string>& more = {}) {
    std::vector<std::string> all = {"data.train=pairs.jsonl", "data.sequence=32", "run.steps=12", "log.validate_every=4",
                                    "log.validation_batches=0"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  void expect_same(const std::string& one, const std::string& other, double tolerance) const {
    for (const char* key : {"loss", "grad_norm", "val_loss", "counted_tokens"}) {
      const std::vector<double> a = metric(one, key), b = metric(other, key);
      ASSERT_EQ(a.size(), b.size()) << key;
      for (std::size_t i = 0; i < a.size(); ++i)
        EXPECT_NEAR(a[i], b[i], tolerance * std::abs(a[i])) << key << " " << i << " of " << other;
    }
  }

  Outcome refused(const std::string& arguments, const std::vector<std::string>& words) const {
    Outcome outcome = muonp(arguments, 2);
    EXPECT_EQ(outcome.status, 1) << outcome.out << outcome.err;
    for (const std::string& word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos) << word << "\n" << outcome.err;
    EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
    if (!core::exists(path("runs/refused"))) return outcome;
    for (const std::string& entry : core::list_directory(path("runs/refused")))
      EXPECT_TRUE(entry.ends_with(".examples")) << entry;  // what was encoded stays, for the next start
    return outcome;
  }
};

TEST_F(Finetuning, LossAndGradientAreOfTheWholeBatchHoweverItIsSharedOut) {
  train("one", settings());
  train("small", settings({"data.micro_batch=1"}));
  train("two", settings({"data.micro_batch=2", "parallel.zero=2"}), 2);
  train("four", settings({"data.micro_batch=1", "parallel.zero=3", "parallel.overlap=true"}), 4);
  for (const char* other : {"small", "two", "four"}) expect_same("one", other, 2e-4);
  EXPECT_LT(metric("one", "loss").back(), 0.9 * metric("one", "loss").front());
}

// One batch of all examples, one or two of them in a sequence of 32: attention and positions that went over a border would
// give another loss.
TEST_F(Finetuning, PackedExamplesGiveTheLossAndTheGradientOfSingleOnes) {
  std::string lines;
  for (int i = 0; i < 24; ++i) {
    const int bytes = 1 + (i < 12 ? 10 + i : 22 - (i - 12)), prompt = 3 + i % 5;
    std::string text;
    for (int k = 0; k < bytes; ++k) text += static_cast<char>('a' + (i * 7 + k * k) % 26);
    lines += nlohmann::json{{"prompt", text.substr(0, static_cast<std::size_t>(prompt))},
                            {"completion", text.substr(static_cast<std::size_t>(prompt))}}
                 .dump() +
             "\n";
  }
  write("fitting.jsonl", lines);
  for (const std::string family : {"gpt", "llama"}) {
    const auto with = [&](const std::vector<std::string>& more) {
      std::vector<std::string> all =
          settings({"data.train=fitting.jsonl", "data.validation_fraction=0", "run.steps=1", "schedule.warmup=0",
                    "model.family=" + family, "model.layers=2", "model.heads=2", "model.width=32", "model.context=32"});
      all.insert(all.end(), more.begin(), more.end());
      return all;
    };
    train("single-" + family, with({"data.batch=24"}));
    train("packed-" + family, with({"data.batch=12", "data.packing=true"}));
    train("ranks-" + family, with({"data.batch=12", "data.packing=true", "data.micro_batch=1", "parallel.zero=3"}), 3);
    EXPECT_EQ(metric("packed-" + family, "tokens"), std::vector<double>{12 * 32});
    expect_same("single-" + family, "packed-" + family, 1e-5);
    expect_same("single-" + family, "ranks-" + family, 1e-5);
  }
}

// The same after a resume at another number of ranks, with files mixed and several epochs gone through.
TEST_F(Finetuning, SamplesAreTheSameOverRanksAndAResume) {
  const auto record = [&](const std::string& out, int stop, const std::string& run, int ranks) {
    const std::string arguments = fmt::format(
        "tiny.yaml {} {} data.train=pairs.jsonl data.sequence=32 run.name={} 'data.mix=[{{file: more.jsonl, weight: 1.5}}]' "
        "data.validation_fraction=0 data.cache=cache",
        path(out), stop, run);
    const Outcome outcome = run_shell(command(arguments, ranks, MUONP_RECORD_SAMPLES));
    ASSERT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  };
  const auto lines = [&](const std::string& out, int ranks) {
    std::vector<std::string> all;
    for (int rank = 0; rank < ranks; ++rank) {
      const std::string text = read(fmt::format("{}-{}", out, rank));
      for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
        all.push_back(text.substr(begin, end - begin));
    }
    std::ranges::sort(all);
    return all;
  };
  write("more.jsonl", R"({"text": "another text"})"
                      "\n"
                      R"({"text": "and one more"})"
                      "\n");
  record("whole", 14, "whole", 0);
  record("before", 5, "resumed", 2);
  record("after", 14, "resumed", 3);
  std::vector<std::string> resumed = lines("before", 2);
  for (const std::string& line : lines("after", 3)) resumed.push_back(line);
  std::ranges::sort(resumed);
  EXPECT_EQ(resumed, lines("whole", 1));
  EXPECT_EQ(resumed.size(), 14u * 12);
}

TEST_F(Finetuning, FieldsBecomeTextByTemplates) {
  train("pairs", settings({"run.steps=3"}));
  train("questions", settings({"data.train=questions.jsonl", "run.steps=3", "'data.prompt=\"{question}\"'",
                               "'data.completion=\"{answer}\"'"}));
  EXPECT_EQ(metric("pairs", "loss"), metric("questions", "loss"));
}

TEST_F(Finetuning, EncodedOnceAndEvaluatedWhereTheFileIsGone) {
  train("run", settings({"data.cache=cache"}));
  const std::vector<std::string> made = core::list_directory(path("cache"));
  ASSERT_EQ(made.size(), 1u);
  const Outcome again = muonp(train_arguments("again", settings({"data.cache=cache"})), 2);
  EXPECT_EQ(again.out.find("encoding"), std::string::npos) << again.out;
  EXPECT_EQ(core::list_directory(path("cache")), made);
  EXPECT_EQ(metric("run", "loss").size(), 12u);
  train("longer", settings({"data.cache=cache", "data.sequence=31"}));  // another limit, another file
  EXPECT_EQ(core::list_directory(path("cache")).size(), 2u);
  core::rename_path(path("pairs.jsonl"), path("elsewhere"));
  const Outcome eval = muonp("eval runs/run --json");
  ASSERT_EQ(eval.status, 0) << eval.err;
  const auto found = nlohmann::json::parse(eval.out);
  EXPECT_NEAR(found.at("loss").get<double>(), metric("run", "val_loss").back(), 1e-5);
  EXPECT_EQ(found.at("tokens").get<double>(), metric("run", "counted_tokens").back());
}

TEST_F(Finetuning, BrokenLinesAreNamedAndLeftOutOnlyWhenAsked) {
  write("broken.jsonl", read("pairs.jsonl") + "{\"prompt\": \"a\"\n\n{\"prompt\": \"a\", \"completion\": \"\"}\n[]\n");
  const std::string broken = train_arguments("refused", settings({"data.train=broken.jsonl"}));
  refused(broken, {"data.train: 3 broken lines", "broken.jsonl:91: no JSON", "broken.jsonl:93: its completion is empty",
                   "broken.jsonl:94: it is a list", "--skip-bad"});
  const Outcome skipped = muonp(train_arguments("skipped", settings({"data.train=broken.jsonl"})) + " --skip-bad");
  EXPECT_EQ(skipped.status, 0) << skipped.err;
  EXPECT_NE(skipped.out.find("left out 3 broken lines"), std::string::npos) << skipped.out;
  EXPECT_NE(skipped.out.find("3 broken"), std::string::npos) << skipped.out;
  train("clean", settings());
  EXPECT_EQ(metric("clean", "loss"), metric("skipped", "loss"));
}

TEST_F(Finetuning, WhatCannotBeTrainedOnIsOneClearMessage) {
  const auto refuse = [&](const std::string& content, const std::vector<std::string>& words,
                          const std::vector<std::string>& more = {}) {
    write("bad.jsonl", content);
    std::vector<std::string> with = {"data.train=bad.jsonl"};
    with.insert(with.end(), more.begin(), more.end());
    refused(train_arguments("refused", settings(with)), words);
  };
  const std::string pair = R"({"prompt": "a", "completion": "b"})"
                           "\n";
  refuse(pair + R"({"text": "c"})"
                "\n",
         {"examples of several kinds", "bad.jsonl:1 has prompt and completion", "bad.jsonl:2 has text"});
  const std::string lengthy = fmt::format(R"({{"prompt": "{}", "completion": "b"}})", std::string(50, 'x')) + "\n";
  refuse(lengthy, {"not one valid example", "1 whose prompt alone fills a sequence"});
  refuse(lengthy, {"bad.jsonl:1: the example has 51 tokens, data.sequence allows 33"}, {"data.too_long=error"});
  refuse(lengthy, {"not one valid example", "1 longer than data.sequence (32)"}, {"data.too_long=drop"});
  refuse("\n \n", {"not one valid example"});
  refuse("", {"bad.jsonl is empty"});
  refuse(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"
         "\n",
         {"bad.jsonl:1: it has messages, and there is no chat template"});
  refuse(pair, {"data.validation_fraction: the last 0.1 of the 1 examples"});
  refuse(pair, {"data.prompt: '{a' has a brace"}, {"'data.prompt=\"{a\"'"});
  write("t.txt", std::string(4000, 'x'));
  refuse(pair, {"data.mix.0.file: t.txt is no JSONL file"}, {"'data.mix=[{file: t.txt}]'"});
  refused(train_arguments("refused", settings({"data.train=t.txt", "'data.mix=[{file: pairs.jsonl}]'"})),
          {"data.mix: only examples"});
}

TEST_F(Finetuning, LengthRulesAreCounted) {
  write("long.jsonl",
        read("pairs.jsonl") + fmt::format(R"({{"prompt": "a", "completion": "{}"}})", std::string(50, 'x')) + "\n");
  const Outcome cut = muonp(train_arguments("cut", settings({"data.train=long.jsonl", "run.steps=1", "schedule.warmup=0"})));
  EXPECT_NE(cut.out.find("1 examples are cut to 33 tokens"), std::string::npos) << cut.out << cut.err;
  const Outcome dropped = muonp(train_arguments(
      "dropped", settings({"data.train=long.jsonl", "data.too_long=drop", "run.steps=1", "schedule.warmup=0"})));
  EXPECT_NE(dropped.out.find("1 examples of more than 33 tokens are left out"), std::string::npos)
      << dropped.out << dropped.err;
}

TEST_F(Finetuning, AStopWhileExamplesAreEncodedLeavesNothing) {
  std::string lines;
  for (int i = 0; i < 1'500'000; ++i)
    lines += fmt::format("{{\"prompt\": \"{0} and {0}\", \"completion\": \"{1}\"}}\n", i, i * 7);
  write("many.jsonl", lines);
  bool stopped = false;
  const Outcome outcome = run_shell(
      command(train_arguments("stopped", settings({"data.train=many.jsonl", "data.cache=cache"}))), 120, [&](int pid) {
        if (stopped || !core::exists(path("cache")) || core::list_directory(path("cache")).empty()) return;
        kill(pid, SIGTERM);
        stopped = true;
      });
  EXPECT_TRUE(stopped);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(core::list_directory(path("cache")).empty()) << outcome.out;
}

}  // namespace muonp::e2e
