// Models that write and are evaluated: eval, generate and chat, of runs and of folders, alone and on ranks, and while
// training.
#include <csignal>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/data/tokenizer/tokenizer.h"
#include "core/files/files.h"
#include "launch/train/metrics.h"
#include "models/pretrained/hf_config.h"
#include "models/pretrained/hf_names.h"
#include "tests/e2e/program.h"
#include "tests/models/pretrained/hf_folder.h"

namespace muonp::e2e {

using nlohmann::json;

class Inference : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    write("choices.jsonl", R"({"question": "the sun", "choices": ["is", "qqqq", "xzx"], "answer": 0})"
                           "\n"
                           R"({"question": "the", "choices": ["moon", "sea and"], "answer": "sea and"})"
                           "\n"
                           R"({"question": "a", "choices": ["1", "2", "3"], "answer": "C"})"
                           "\n");
    std::string exact;
    for (int i = 0; i < 7; ++i)
      exact +=
          json{{"prompt", std::string("the sun ").substr(0, static_cast<std::size_t>(i + 1))}, {"completion", "e"}}.dump() +
          "\n";
    write("exact.jsonl", exact);
    write("other.txt", "the sun and the sea and the moon are there, and so is the night.\n");
  }
  Outcome good(const std::string& arguments, int ranks = 0) const {
    Outcome outcome = muonp(arguments, ranks);
    EXPECT_EQ(outcome.status, 0) << arguments << "\n" << outcome.out << outcome.err;
    return outcome;
  }
  void refused(const std::string& arguments, const std::vector<std::string>& words, int ranks = 0, int status = 1) const {
    const Outcome outcome = muonp(arguments, ranks);
    EXPECT_EQ(outcome.status, status) << arguments << "\n" << outcome.out << outcome.err;
    for (const std::string& word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos) << word << "\n" << outcome.err;
    EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
  }

  // A random Llama with a tokenizer of the fixtures and a chat template.
  void make_folder(const std::string& name) const {
    const std::string tokenizer = MUONP_TOKENIZER_FIXTURES "/smollm2";
    core::make_directories(path(name));
    write(name + "/tokenizer.json", core::read_file(tokenizer + "/tokenizer.json"));
    write(name + "/chat_template.jinja",
          "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}answer: {% endif "
          "%}");
    json config = test::llama_json();
    config["vocab_size"] = core::open_tokenizer(path(name))->vocabulary();
    config["max_position_embeddings"] = 64;
    config["eos_token_id"] = nullptr;
    test::put_config(path(name), config);
    std::vector<test::TensorInFile> tensors;
    const auto model = models::make_model(models::read_hf_config(path(name)));
    for (const core::Parameter* p : model->parameters()) tensors.push_back({p->name, "F32", p->shape, false});
    write(name + "/model.safetensors", test::safetensors_bytes(tensors));
  }
  static std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
      lines.push_back(text.substr(begin, end - begin));
    return lines;
  }
};

TEST_F(Inference, EvaluationsAreTheSameAtAnyNumberOfRanks) {
  make_folder("folder");
  const std::string tasks =
      "eval folder --text text.txt --window 24 --limit 30 --choices choices.jsonl --exact exact.jsonl "
      "--tokens 5 --samples 3 --pass 2 --temperature 2 --batch 2 --json --pattern . --answers ";
  const json one = json::parse(good(tasks + "one.jsonl").out);
  ASSERT_EQ(one.at("tasks").size(), 3u);
  EXPECT_EQ(one["tasks"][0]["tokens"], 23 + 29 * 12);
  EXPECT_EQ(one["tasks"][2]["questions"], 7);
  for (const int ranks : {2, 3}) {
    const json other = json::parse(good(tasks + "other.jsonl", ranks).out);
    for (std::size_t i = 0; i < 3; ++i)
      for (const auto& [key, value] : one["tasks"][i].items())
        if (value.is_number())
          EXPECT_NEAR(other["tasks"][i][key].get<double>(), value.get<double>(), 1e-9 * value.get<double>()) << key;
        else
          EXPECT_EQ(other["tasks"][i][key], value);
    EXPECT_EQ(read("other.jsonl"), read("one.jsonl"));
  }
  EXPECT_EQ(lines_of(read("one.jsonl")).size(), 21u);
  const std::string table = good("eval folder --text other.txt --choices choices.jsonl", 2).out;
  for (const char* word : {"acc_norm", "perplexity", "other", "choices"})
    EXPECT_NE(table.find(word), std::string::npos) << table;
}

// The validation data of a run is shared out too, and one result is an object without a list.
TEST_F(Inference, ARunsValidationDataIsSharedOut) {
  train("one", {"log.validation_batches=0"});
  const json one = json::parse(good("eval runs/one --json").out), two = json::parse(good("eval runs/one --json", 2).out);
  EXPECT_NEAR(two.at("loss").get<double>(), one.at("loss").get<double>(), 1e-9);
  EXPECT_EQ(two.at("tokens"), one.at("tokens"));
  EXPECT_NEAR(one.at("loss").get<double>(), metric("one", "val_loss").back(), 1e-5);
  const json text = json::parse(good("eval runs/one --text other.txt --logits logits.npy --json").out);
  EXPECT_EQ(text.at("tokens"), 64);
  EXPECT_EQ(core::file_size(path("logits.npy")), 128 + 32 * 256 * 4);
}

TEST_F(Inference, ManyPromptsAreContinuedAsOne) {
  make_folder("folder");
  write("prompts.txt", "the sun\nan\nthe sea and the moon and\nzebra\n\nx\n");
  const std::vector<std::string> prompts = {"the sun", "an", "the sea and the moon and", "zebra", "x"};
  for (const std::string options : {"--temperature 0", "--temperature 1.5 --top-p 0.9 --repetition-penalty 1.2 --seed 3"}) {
    const std::string all = good("generate folder --tokens 12 --ids --batch 2 --prompts prompts.txt " + options).out;
    EXPECT_EQ(good("generate folder --tokens 12 --ids --batch 2 --prompts prompts.txt " + options, 2).out, all);
    EXPECT_EQ(good("generate folder --tokens 12 --ids --batch 5 --no-cache --prompts prompts.txt " + options).out, all);
    const std::vector<std::string> lines = lines_of(all);
    ASSERT_EQ(lines.size(), prompts.size());
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      EXPECT_EQ(std::ranges::count(lines[i], ' '), 11) << lines[i];
      EXPECT_EQ(good("generate folder --tokens 12 --ids --prompt '" + prompts[i] + "' " + options).out, lines[i] + "\n");
    }
  }
  const json first =
      json::parse(lines_of(good("generate folder --tokens 4 --json --temperature 0 --prompts prompts.txt").out).front());
  EXPECT_EQ(first["prompt"], "the sun");
  EXPECT_EQ(first["ids"].size(), 4u);
  // What comes as it is made is the same, but for bytes that are no UTF-8, which JSON cannot hold: these few have none.
  EXPECT_EQ(good("generate folder --tokens 4 --temperature 0 --prompt 'the sun'").out,
            "the sun" + first["text"].get<std::string>() + "\n");
}

TEST_F(Inference, ATextEndsBeforeAStopStringAndWithAStopToken) {
  make_folder("folder");
  const auto written = [&](const std::string& more) {
    return json::parse(good("generate folder --tokens 30 --json --temperature 0 --prompt sun " + more).out);
  };
  const json whole = written("");
  const auto text = whole["text"].get<std::string>();
  std::string stop;  // four bytes of letters within the text, which tokens need not end with
  for (std::size_t i = 4; i + 4 < text.size() && stop.empty(); ++i)
    if (std::ranges::all_of(text.substr(i, 4), [](unsigned char c) { return std::isalpha(c); })) stop = text.substr(i, 4);
  ASSERT_FALSE(stop.empty()) << text;
  EXPECT_EQ(written("--stop none --stop " + stop)["text"], text.substr(0, text.find(stop)));

  const auto ids = whole["ids"].get<std::vector<int>>();
  const int end = ids[8];
  const auto at = std::ranges::find(ids, end) - ids.begin();
  write("folder/generation_config.json", json{{"eos_token_id", {99999, end}}}.dump());
  const json ended = written("");
  EXPECT_EQ(ended["ids"].get<std::vector<int>>(), std::vector<int>(ids.begin(), ids.begin() + at + 1));
}

TEST_F(Inference, ChatReadsLinesAndKeepsTheConversation) {
  make_folder("folder");
  const auto chat = [&](const std::string& lines, const std::string& more = "") {
    write("lines.txt", lines);
    return lines_of(good("chat folder --temperature 0 --tokens 6 " + more + " < lines.txt").out);
  };
  const std::vector<std::string> two = chat("the sun\nthe sea\n"), one = chat("the sea\n");
  ASSERT_EQ(one.size(), 1u);
  ASSERT_GE(two.size(), 2u);
  EXPECT_EQ(chat("the sun\n/reset\n\nthe sea\n/exit\nthe moon\n"), (std::vector<std::string>{two[0], one[0]}));
  EXPECT_EQ(good("generate folder --chat --temperature 0 --tokens 6 --prompt 'the sea'").out, one[0] + "\n");
  EXPECT_EQ(good("generate folder --chat --system so --temperature 0 --tokens 6 --prompt 'the sea'").out,
            chat("the sea\n", "--system so")[0] + "\n");
  // 64 tokens are soon full.
  write("lines.txt", std::string("the sun and the sea\nand the moon\nand the night there\nthe sun\n"));
  const Outcome full = good("chat folder --temperature 0 --tokens 16 < lines.txt");
  EXPECT_NE(full.err.find("oldest messages are forgotten"), std::string::npos) << full.err;
  write("lines.txt", std::string(400, 'x') + " " + std::string(400, 'q') + "\nthe sea\n");
  const Outcome long_line = good("chat folder --temperature 0 --tokens 6 < lines.txt");
  EXPECT_NE(long_line.err.find("leave room for an answer"), std::string::npos) << long_line.err;
  EXPECT_EQ(long_line.out, one[0] + "\n");
}

// Ctrl-C ends the answer, and the next line gets one. The process that is interrupted is the only child of the pipe's last
// part.
TEST_F(Inference, AnInterruptEndsAnAnswer) {
  make_folder("folder");
  json config = json::parse(read("folder/config.json"));
  config["max_position_embeddings"] = 1 << 15;
  write("folder/config.json", config.dump());
  const std::string chat = fmt::format("{} chat folder --temperature 0 --tokens 1000000 --threads 1", MUONP_PROGRAM);
  const Outcome outcome =
      run_shell(fmt::format("cd {} && mkfifo lines && ({} < lines > answers & echo $! > pid; wait $!) & cd {}; until [ -s "
                            "pid ]; do sleep 0.1; done; "
                            "exec 3> lines; echo one >&3; until [ -s answers ]; do sleep 0.1; done; kill -INT $(cat pid); "
                            "until [ $(wc -l < answers) -ge 1 ]; do sleep 0.1; done; echo /exit >&3; exec 3>&-; "
                            "for i in $(seq 100); do kill -0 $(cat pid) 2>/dev/null || exit 0; sleep 0.1; done; exit 9",
                            path(""), chat, path("")),
                60);
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
}

TEST_F(Inference, RunsEvaluateWhileTheyTrain) {
  write("eval.yaml", tiny_config() + R"(eval:
  - {kind: text, file: other.txt, every: 2, at_start: true, window: 12}
  - {name: pick, kind: choices, file: choices.jsonl, every: 3}
  - {name: words, kind: exact, file: exact.jsonl, tokens: 4, samples: 2, pass: 2, temperature: 1.5, pattern: "[a-z]", batch: 2}
)");
  const auto trained = [&](const std::string& name, const std::string& settings, int ranks) {
    return good("train eval.yaml --set run.steps=6 --set run.name=" + name + " " + settings, ranks);
  };
  const Outcome one = trained("one", "", 0);
  EXPECT_NE(one.out.find("pick  acc "), std::string::npos) << one.out;
  const std::vector<double> losses = metric("one", "eval.other.loss");
  ASSERT_EQ(losses.size(), 4u);  // before, after 2, 4 and 6
  EXPECT_LT(losses.back(), losses.front());
  EXPECT_EQ(metric("one", "eval.pick.acc_norm").size(), 2u);
  EXPECT_EQ(metric("one", "eval.words.pass@2").size(), 1u);
  EXPECT_EQ(metric("one", "loss").size(), 6u);
  const json eval = json::parse(good("eval runs/one --text other.txt --window 12 --json").out);
  EXPECT_NEAR(eval["loss"].get<double>(), losses.back(), 1e-6);
  for (int stage = 0; stage <= 3; ++stage) {
    const std::string name = fmt::format("zero-{}", stage);
    trained(name, fmt::format("--set parallel.zero={} --set parallel.overlap={}", stage, stage % 2 == 1), 3);
    const std::vector<double> others = metric(name, "eval.other.loss");
    ASSERT_EQ(others.size(), losses.size());
    for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(others[i], losses[i], 1e-4) << name;
    EXPECT_EQ(metric(name, "eval.words.exact").size(), 1u);
    EXPECT_EQ(metric(name, "loss").size(), 6u);
  }
}

TEST_F(Inference, BadInputIsOneMessage) {
  make_folder("folder");
  train("one", {"run.steps=1", "schedule.warmup=0"});
  refused("eval nowhere", {"nowhere", "neither config.resolved.yaml nor config.json", "Hugging Face folder"}, 2);
  refused("eval folder", {"folder", "--text, --choices, --exact or --data"}, 2);
  refused("eval folder --checkpoint 3 --text other.txt", {"--checkpoint", "has no checkpoints"}, 2);
  write("empty.txt", "");
  refused("eval folder --text empty.txt", {"empty.txt", "0 tokens"}, 2);
  write("empty.jsonl", "\n");
  refused("eval folder --exact empty.jsonl", {"empty.jsonl", "no line"}, 2);
  refused("eval folder --exact choices.jsonl", {"choices.jsonl:1", "question"}, 2);
  refused("eval folder --exact exact.jsonl --pattern '('", {"exact: pattern", "no regular expression"}, 2);
  refused("eval folder --text other.txt --pattern x", {"--pattern", "--exact"}, 0, 2);
  refused("eval folder --text other.txt --window 65", {"window of 65", "context of 64"}, 2);
  refused("generate folder --prompt '" + std::string(300, '7') + "'", {"--prompt", "context of 64"}, 2);
  refused("generate folder --prompts empty.txt", {"--prompts", "empty.txt", "no line"}, 2);
  refused("generate folder --stop ''", {"stop string is empty"}, 2);
  refused("generate runs/one --chat", {"--chat", "runs/one", "no chat template"}, 2);
  refused("chat runs/one", {"runs/one", "no chat template"});
  refused("chat folder", {"one process", "2 were started"}, 2);
  write("folder/generation_config.json", R"({"eos_token_id": "x"})");
  refused("generate folder", {"generation_config.json", "eos_token_id"}, 2);
  refused("train tiny.yaml --set 'eval=[{kind: exact, file: exact.jsonl, window: 3}]'", {"eval.0.window", "kind: text"}, 2);
  refused("train tiny.yaml --set 'eval=[{file: other.txt}, {file: other.txt}]'", {"eval.1.name", "'other'"}, 2);
  refused("train tiny.yaml --set run.name=two --set 'eval=[{file: none.txt}]'", {"none.txt"}, 2);
}

}  // namespace muonp::e2e
