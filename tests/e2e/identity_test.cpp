// A run is what it was started as: on every rank, when it goes on, and for whoever reads it.
#include <nlohmann/json.hpp>

#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Identity : public ProgramTest {
 protected:
  static bool has(const std::string& text, const std::string& word) { return text.find(word) != std::string::npos; }

  // Status 1 and one message, which rank 0 gave in the name of all and which has all of `words`.
  static void expect_agreed_refusal(const Outcome& outcome, const std::vector<std::string>& words) {
    EXPECT_EQ(outcome.status, 1) << outcome.out << outcome.err;
    for (const std::string& word : words) EXPECT_TRUE(has(outcome.err, word)) << "no '" << word << "' in\n" << outcome.err;
    std::size_t messages = 0;
    for (std::size_t at = 0; (at = outcome.err.find("muonp: error:", at)) != std::string::npos; ++at) ++messages;
    EXPECT_EQ(messages, 1u) << outcome.err;
    EXPECT_FALSE(has(outcome.err, "muonp: error: rank 0 of")) << outcome.err;  // as one rank says it that ends the others
  }

  // Two ranks, the second with further settings.
  Outcome started_apart(const std::string& settings, const std::string& command = "train tiny.yaml") const {
    const std::string common = command + " --set run.steps=3 --set run.name=apart";
    return muonp(fmt::format("{} : -np 1 {} {} {}", common, MUONP_PROGRAM, common, settings), 1, 60);
  }

  // Of everything below the folder: names, sizes and times.
  std::string listing() const { return run_shell("cd " + path("") + " && find . -printf '%p %s %T@\\n' | sort").out; }

  // A run with a tokenizer of its own, whose text is encoded into its folder.
  void train_with_tokenizer(const std::string& name) const {
    ASSERT_EQ(muonp("tokenize --in text.txt --vocab 280 --out bpe.model").status, 0);
    train(name, {"data.tokenizer=bpe.model", "run.steps=4"});
  }

  nlohmann::json evaluated(const std::string& folder, const std::string& arguments) const {
    const Outcome eval = run_shell(fmt::format("cd {} && {} eval {} --json", folder, MUONP_PROGRAM, arguments));
    EXPECT_EQ(eval.status, 0) << arguments << "\n" << eval.err;
    return eval.status == 0 ? nlohmann::json::parse(eval.out) : nlohmann::json();
  }
};

TEST_F(Identity, SettingsThatDifferBetweenRanksAreNamed) {
  for (const auto& [setting, here, there] : {std::tuple{"optimizer.clip=0.1", "1.0 on rank 0 of 2", "0.1 on rank 1"},
                                             {"optimizer.matrices.momentum=0.5", "0.95 on rank 0 of 2", "0.5 on rank 1"},
                                             {"schedule.warmup=2", "3 on rank 0 of 2", "2 on rank 1"},
                                             {"data.shuffle=false", "true on rank 0 of 2", "false on rank 1"},
                                             {"checkpoint.every=1", "0 on rank 0 of 2", "1 on rank 1"}}) {
    const std::string key = std::string(setting).substr(0, std::string(setting).find('='));
    expect_agreed_refusal(started_apart(fmt::format("--set {}", setting)), {key + " differs between ranks", here, there});
  }
  EXPECT_FALSE(core::exists(path("runs/apart")));
}

TEST_F(Identity, DataThatDiffersBetweenRanksIsNamed) {
  write("copy.txt", read("text.txt"));
  EXPECT_EQ(started_apart("--set data.train=copy.txt --set parallel.threads=2").status, 0);
  std::string text = read("text.txt");
  text[text.size() / 3] = 'X';
  write("other.txt", text);
  expect_agreed_refusal(started_apart("--set data.train=other.txt"),
                        {"data.train differs between ranks", fmt::format("{} tokens", text.size()), "rank 1"});
}

TEST_F(Identity, CommandsThatDifferBetweenRanksAreNamed) {
  const std::string common = "tiny.yaml --set run.steps=3";
  expect_agreed_refusal(muonp(fmt::format("train {} : -np 1 {} bench step {}", common, MUONP_PROGRAM, common), 1, 60),
                        {"the command differs between ranks", "train on rank 0", "bench step on rank 1"});
  expect_agreed_refusal(started_apart("--repeats 2", "bench step tiny.yaml"), {"--repeats differs", "5 on rank 0", "2 on"});
}

TEST_F(Identity, ErrorsThatAllRanksKnowOfEndInOrder) {
  for (const auto& [setting, word] : {std::pair{"data.batch=13", "data.batch: 13"},
                                      {"data.sequence=64", "model.context"},
                                      {"optimizer.matrices.select=[nothing*]", "nothing*"}})
    expect_agreed_refusal(muonp(fmt::format("train tiny.yaml --set '{}'", setting), 2, 60), {word});
}

TEST_F(Identity, ARunGoesOnAsWhatItWas) {
  train("one", {"run.steps=4"});
  const std::string saved = read("runs/one/checkpoints/step-00000004/manifest.json");
  for (const auto& [setting, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"data.validation_fraction=0.4", {"0.4 here, 0.1 in the checkpoint"}},
           {"data.shuffle=false", {"false here, true in the checkpoint"}},
           {"model.layers=1", {"1 here, 2 in the checkpoint"}},
           {"model.activation=relu2", {"relu2 here, gelu in the checkpoint"}},
           {"optimizer.matrices.p=0", {"\"0\" here, 1/2 in the checkpoint"}},
           {"optimizer.matrices.rule=sgd", {"sgd here, muonp in the checkpoint"}}}) {
    const std::string key = setting.substr(0, setting.find('='));
    std::vector<std::string> all = words;
    all.push_back(key + ": ");
    all.push_back("checkpoint.allow: [" + key);
    expect_agreed_refusal(muonp(train_arguments("one", {"run.steps=6", setting}), 2, 60), all);
  }
  EXPECT_EQ(read("runs/one/checkpoints/step-00000004/manifest.json"), saved);

  const Outcome allowed =
      muonp(train_arguments("one", {"run.steps=6", "data.shuffle=false", "'checkpoint.allow=[data.shuffle]'"}));
  EXPECT_EQ(allowed.status, 0) << allowed.err;
  EXPECT_TRUE(has(allowed.out, "data.shuffle changes from true to false")) << allowed.out;
  EXPECT_TRUE(has(allowed.out, "run.steps changes from 4 to 6")) << allowed.out;
  expect_agreed_refusal(muonp(train_arguments("one", {"run.steps=8"}), 2, 60), {"data.shuffle: true here, false in"});
}

TEST_F(Identity, AnotherTextOrTokenizerIsNotGoneOnWith) {
  train_with_tokenizer("one");
  const std::vector<std::string> more = {"data.tokenizer=bpe.model", "run.steps=6"};
  ASSERT_EQ(muonp("tokenize --in text.txt --vocab 290 --out bpe.model").status, 0);
  const Outcome tokenizer = muonp(train_arguments("one", {more[0], more[1], "model.vocabulary=290"}));
  EXPECT_EQ(tokenizer.status, 1);
  EXPECT_TRUE(has(tokenizer.err, "data.tokenizer: 290 ids, hash")) << tokenizer.err;
  core::write_file(path("bpe.model"), read("runs/one/tokenizer.model"));
  write("text.txt", "water " + read("text.txt"));
  const Outcome text = muonp(train_arguments("one", more));
  EXPECT_EQ(text.status, 1);
  EXPECT_TRUE(has(text.err, "data.train: ")) << text.err;
}

// Whatever the configuration says: a block that the model has not would be gone after the next save.
TEST_F(Identity, ParametersThatTheModelHasNotAreRefused) {
  train("one", {"run.steps=4"});
  const std::string allow = "'checkpoint.allow=[model.*]'";
  const Outcome less = muonp(train_arguments("one", {"run.steps=4", "model.layers=1", allow}));
  EXPECT_EQ(less.status, 1);
  EXPECT_TRUE(has(less.err, "no parameter blocks.1.")) << less.err;
  const Outcome more = muonp(train_arguments("one", {"run.steps=4", "model.layers=3", allow}));
  EXPECT_EQ(more.status, 1);
  EXPECT_TRUE(has(more.err, "lacks the parameter blocks.2.")) << more.err;
}

TEST_F(Identity, EvalAndGenerateCompareModelAndTokenizer) {
  train("one", {"run.steps=4"});
  train("two", {"run.steps=4", "model.activation=relu2"});
  train("less", {"run.steps=4", "model.layers=1"});
  ASSERT_EQ(muonp("checkpoint export runs/two two.safetensors").status, 0);
  for (const char* weights : {"runs/two/checkpoints/step-00000004", "two.safetensors"})
    for (const std::string command : {"eval", "generate"}) {
      const Outcome outcome = muonp(fmt::format("{} runs/one --checkpoint {}", command, weights));
      EXPECT_EQ(outcome.status, 1);
      EXPECT_TRUE(has(outcome.err, "model.activation: gelu here, relu2 in the checkpoint")) << outcome.err;
    }
  const Outcome less = muonp("eval runs/less --checkpoint runs/one/checkpoints/step-00000004");
  EXPECT_EQ(less.status, 1);
  EXPECT_TRUE(has(less.err, "model.layers: 1 here, 2 in the checkpoint")) << less.err;
  write("text.txt", read("text.txt") + "water ");
  const Outcome text = muonp("eval runs/one");
  EXPECT_EQ(text.status, 1);
  EXPECT_TRUE(has(text.err, "data.train: ")) << text.err;
  EXPECT_EQ(muonp("eval runs/one --data text.txt").status, 0);
}

TEST_F(Identity, AMovedRunIsReadWithoutItsTextAndTokenizerAndWithoutWriting) {
  train_with_tokenizer("one");
  const nlohmann::json before = evaluated(path(""), "runs/one");
  core::make_directories(path("archive"));
  core::rename_path(path("runs/one"), path("archive/moved"));
  core::remove_tree(path("runs"));
  core::rename_path(path("text.txt"), path("archive/other.txt"));
  write("bpe.model", "no longer a tokenizer");
  EXPECT_EQ(run_shell("chmod -R a-w " + path("archive/moved")).status, 0);
  const std::string all = listing();

  EXPECT_EQ(evaluated(path(""), "archive/moved").at("loss"), before.at("loss"));
  EXPECT_EQ(evaluated("/", path("archive/moved")).at("loss"), before.at("loss"));
  EXPECT_GT(evaluated(path(""), "archive/moved --data archive/other.txt").at("tokens"), before.at("tokens"));
  EXPECT_EQ(
      run_shell(fmt::format("cd / && {} generate {} --tokens 3 --prompt 'the sun'", MUONP_PROGRAM, path("archive/moved")))
          .status,
      0);
  for (const char* command : {"checkpoint list", "checkpoint verify", "compare"})
    EXPECT_EQ(
        muonp(fmt::format("{} archive/moved {}", command, std::string_view(command) == "compare" ? "--metric loss" : ""))
            .status,
        0);
  EXPECT_EQ(listing(), all);
  run_shell("chmod -R u+w " + path("archive/moved"));
}

// Bytes are not encoded anew: their text is found from wherever the run is read.
TEST_F(Identity, ARunOfBytesIsReadFromAnotherFolder) {
  train("one", {"run.steps=4"});
  const std::string all = listing();
  EXPECT_EQ(evaluated("/", path("runs/one")).at("loss"), evaluated(path(""), "runs/one").at("loss"));
  EXPECT_EQ(listing(), all);
}

// What a killed process of eval would leave is the only thing that is not in this folder.
TEST_F(Identity, EncodedTextOfEvalIsGoneAfterwards) {
  train_with_tokenizer("one");
  core::make_directories(path("tmp"));
  write("other.txt", read("text.txt").substr(100, 5000));
  const std::string line =
      fmt::format("cd {} && TMPDIR={} {} eval runs/one --data other.txt", path(""), path("tmp"), MUONP_PROGRAM);
  EXPECT_EQ(run_shell(line).status, 0);
  EXPECT_EQ(core::list_directory(path("tmp")), std::vector<std::string>());
  const Outcome nowhere =
      run_shell(fmt::format("cd {} && TMPDIR=/nowhere {} eval runs/one --data other.txt", path(""), MUONP_PROGRAM));
  EXPECT_EQ(nowhere.status, 1);
  EXPECT_TRUE(has(nowhere.err, "TMPDIR")) << nowhere.err;
}

}  // namespace muonp::e2e
