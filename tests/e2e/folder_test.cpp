// A Hugging Face folder in, a folder out.
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "core/files/files.h"
#include "core/files/safetensors.h"
#include "models/pretrained/folder_tensors.h"
#include "models/pretrained/hf_config.h"
#include "models/pretrained/hf_names.h"
#include "tests/e2e/program.h"
#include "tests/models/pretrained/hf_folder.h"

namespace muonp::e2e {

using test::json;
using test::TensorInFile;

class Folder : public ProgramTest {
 protected:
  // Small values, as weights are; GPT-2 with the ids of bytes.
  static json tiny(const std::string& family) {
    json config = family == "gpt2" ? test::gpt2_json() : test::llama_json();
    config["model_type"] = family;
    config["vocab_size"] = 260;
    config[family == "gpt2" ? "n_positions" : "max_position_embeddings"] = 64;
    if (family == "qwen3") config["head_dim"] = 4;
    return config;
  }
  std::vector<TensorInFile> tensors_of(const std::string& folder, const std::string& type) const {
    const models::ModelConfig config = models::read_hf_config(path(folder));
    std::vector<TensorInFile> tensors;
    const auto model = models::make_model(config);
    for (const core::Parameter* p : model->parameters()) {
      const bool transposed = models::is_transposed(config.family, p->name);
      tensors.push_back({p->name, type, p->shape, transposed});
      if (transposed) std::swap(tensors.back().shape[0], tensors.back().shape[1]);
    }
    return tensors;
  }
  // `shards` files, and a tokenizer's file beside.
  void make(const std::string& folder, const json& config, const std::string& type, std::size_t shards = 1) const {
    core::make_directories(path(folder));
    test::put_config(path(folder), config);
    write(folder + "/tokenizer_config.json", "{}");
    write(folder + "/chat_template.jinja", "{{ messages }}");
    const std::vector<TensorInFile> tensors = tensors_of(folder, type);
    if (shards == 1) return write(folder + "/model.safetensors", test::safetensors_bytes(tensors));
    json index;
    for (std::size_t s = 0; s < shards; ++s) {
      const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards);
      const auto begin = tensors.begin() + static_cast<std::ptrdiff_t>(tensors.size() * s / shards);
      const auto end = tensors.begin() + static_cast<std::ptrdiff_t>(tensors.size() * (s + 1) / shards);
      const std::vector<TensorInFile> part(begin, end);
      for (const TensorInFile& t : part) index["weight_map"][t.name] = name;
      write(folder + "/" + name, test::safetensors_bytes(part));
    }
    write(folder + "/model.safetensors.index.json", index.dump());
  }

  // The settings of a run from a folder; those of the tiny GPT are left out.
  void write_config(const std::string& folder) const {
    std::string text = tiny_config();
    const std::size_t begin = text.find("model:"), end = text.find('\n', begin);
    text.replace(begin, end - begin, "model: {from: " + folder + "}");
    const std::string data = "data: {";
    write("folder.yaml", text.replace(text.find(data), data.size(), data + "tokenizer: byte, "));
  }
  Outcome run(const std::string& name, const std::string& folder, const std::string& settings, int ranks) const {
    write_config(folder);
    return muonp("train folder.yaml --set run.name=" + name + " " + settings, ranks);
  }
  static constexpr const char* kNone = "--set run.steps=0 --set parallel.zero=3";

  void expect_same_tensors(const std::string& a, const std::string& b) const {
    const models::FolderTensors x(path(a)), y(path(b));
    ASSERT_EQ(x.all().size(), y.all().size());
    for (const auto& [name, t] : x.all()) {
      const auto* other = y.find(name);
      ASSERT_NE(other, nullptr) << name;
      const core::TensorSpec &s = t.entry->spec, &o = other->entry->spec;
      EXPECT_EQ(s.type, o.type) << name;
      EXPECT_EQ(s.shape, o.shape) << name;
      EXPECT_EQ(std::string(static_cast<const char*>(t.entry->data), static_cast<std::size_t>(s.bytes())),
                std::string(static_cast<const char*>(other->entry->data), static_cast<std::size_t>(o.bytes())))
          << name;
    }
  }
  void expect_refused(const Outcome& outcome, const std::vector<std::string>& words) const {
    EXPECT_EQ(outcome.status, 1) << outcome.out << outcome.err;
    for (const std::string& word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos) << "no '" << word << "' in\n" << outcome.err;
    std::size_t messages = 0;
    for (std::size_t at = 0; (at = outcome.err.find("muonp: error:", at)) != std::string::npos; ++at) ++messages;
    EXPECT_EQ(messages, 1u) << outcome.err;
  }
};

TEST_F(Folder, NoStepsAndOutAgainIsTheSameBytes) {
  struct Case {
    const char *family, *type;
    std::size_t shards;
    int ranks;
  };
  for (const Case& c : {Case{"llama", "BF16", 3, 4}, Case{"gpt2", "F16", 1, 4}, Case{"qwen2", "F32", 1, 1},
                        Case{"qwen3", "BF16", 1, 2}, Case{"mistral", "F16", 2, 3}}) {
    const std::string in = fmt::format("in-{}", c.family), out = fmt::format("out-{}", c.family);
    make(in, tiny(c.family), c.type, c.shards);
    const Outcome trained = run(c.family, in, kNone, c.ranks);
    ASSERT_EQ(trained.status, 0) << trained.out << trained.err;
    const Outcome exported = muonp(fmt::format("export runs/{} {} --shard-size 0.000004", c.family, out));
    ASSERT_EQ(exported.status, 0) << exported.out << exported.err;
    expect_same_tensors(in, out);
    EXPECT_TRUE(core::exists(path(out + "/model.safetensors.index.json")));
    EXPECT_EQ(read(out + "/chat_template.jinja"), read(in + "/chat_template.jinja"));
    json config = json::parse(read(in + "/config.json"));
    config["torch_dtype"] = std::string_view(c.type) == "F32"   ? "float32"
                            : std::string_view(c.type) == "F16" ? "float16"
                                                                : "bfloat16";
    EXPECT_EQ(json::parse(read(out + "/config.json")), config);
    // A run of no steps that was saved is over.
    const Outcome again = run(c.family, in, kNone, 1);
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_NE(again.out.find("Nothing to do"), std::string::npos) << again.out;
  }
}

TEST_F(Folder, EveryStageAndNumberOfRanksStartsFromTheSameWeights) {
  make("in", tiny("llama"), "BF16", 2);
  const std::string few = "--set run.steps=3 --set schedule.warmup=0 --set log.validate_every=0";
  std::vector<double> expected;
  for (const auto& [ranks, zero] : {std::pair{1, 0}, {2, 1}, {3, 2}, {4, 3}}) {
    const std::string name = fmt::format("at-{}-{}", ranks, zero);
    const Outcome outcome = run(name, "in", few + fmt::format(" --set parallel.zero={}", zero), ranks);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    if (expected.empty()) expected = metric(name, "loss");
    const std::vector<double> losses = metric(name, "loss");
    ASSERT_EQ(losses.size(), 3u);
    for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << name;
  }
  // Compressed exchange keeps weights in another way.
  const Outcome compressed =
      run("compressed", "in", few + " --set compression.to_owner=identity --set compression.to_workers=identity", 2);
  ASSERT_EQ(compressed.status, 0) << compressed.err;
  EXPECT_NEAR(metric("compressed", "loss")[0], expected[0], 1e-4 * expected[0]);
}

TEST_F(Folder, ARunGoesOnWhenItsFolderIsGone) {
  make("in", tiny("qwen2"), "BF16");
  const std::string half = "--set run.steps=4 --set schedule.kind=constant --set schedule.warmup=0";
  ASSERT_EQ(run("whole", "in", "--set run.steps=8 --set schedule.kind=constant --set schedule.warmup=0", 2).status, 0);
  ASSERT_EQ(run("parts", "in", half, 4).status, 0);
  core::rename_path(path("in"), path("elsewhere"));
  const Outcome on = run("parts", "in", "--set run.steps=8 --set schedule.kind=constant --set schedule.warmup=0", 2);
  ASSERT_EQ(on.status, 0) << on.err;
  EXPECT_NE(on.out.find("after step 4"), std::string::npos) << on.out;
  const std::vector<double> whole = metric("whole", "loss"), parts = metric("parts", "loss");
  ASSERT_EQ(parts.size(), whole.size());
  for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(parts[i], whole[i], 1e-4 * whole[i]);
  // And is read and exported.
  EXPECT_EQ(muonp("eval runs/parts").status, 0);
  const Outcome exported = muonp("export runs/parts out --checkpoint 8 --dtype float32");
  ASSERT_EQ(exported.status, 0) << exported.err;
  EXPECT_TRUE(core::exists(path("out/tokenizer_config.json")));
  EXPECT_EQ(json::parse(read("out/config.json")).at("torch_dtype"), "float32");
  // A new run needs it.
  expect_refused(run("new", "in", half, 2), {"model.from", "in: no such folder"});
  EXPECT_FALSE(core::exists(path("runs/new")));
}

// Without data.tokenizer it is the folder's, and then the run's copy of that.
TEST_F(Folder, ARunGoesOnWithTheTokenizerThatItKept) {
  json config = tiny("qwen2");
  config["vocab_size"] = 2000;
  make("in", config, "F32");
  run_shell(fmt::format("cp {}/../../fixtures/tokenizers/qwen2/tokenizer.json {}", MUONP_FIXTURES, path("in")));
  write_config("in");
  std::string text = read("folder.yaml");
  write("folder.yaml", text.replace(text.find("tokenizer: byte, "), 17, ""));
  const std::string settings = " --set schedule.kind=constant --set schedule.warmup=0 --set log.validate_every=0";
  const Outcome first = muonp("train folder.yaml --set run.steps=2" + settings);
  ASSERT_EQ(first.status, 0) << first.err;
  core::rename_path(path("in"), path("elsewhere"));
  const Outcome on = muonp("train folder.yaml --set run.steps=4" + settings, 2);
  EXPECT_EQ(on.status, 0) << on.err;
  EXPECT_NE(on.out.find("after step 2"), std::string::npos) << on.out;
  expect_refused(muonp("train folder.yaml --set run.name=new --set run.steps=4" + settings), {"in: no such folder"});
}

TEST_F(Folder, AnExportedFolderIsOneToStartFrom) {
  make("in", tiny("gpt2"), "F32");
  ASSERT_EQ(run("one", "in", "--set run.steps=3", 2).status, 0);
  ASSERT_EQ(muonp("export runs/one out").status, 0);
  ASSERT_EQ(run("two", "out", kNone, 4).status, 0);
  ASSERT_EQ(muonp("export runs/two again").status, 0);
  expect_same_tensors("out", "again");
}

TEST_F(Folder, OtherStartingWeightsAreAnotherRun) {
  make("in", tiny("llama"), "BF16");
  ASSERT_EQ(run("one", "in", "--set run.steps=3", 1).status, 0);
  make("in", tiny("llama"), "F32");
  expect_refused(run("one", "in", "--set run.steps=5", 2), {"model.from", "tensors, hash", "in the checkpoint"});
  // The same weights at another place are the same run.
  make("moved", tiny("llama"), "BF16");
  EXPECT_EQ(run("one", "moved", "--set run.steps=5", 2).status, 0);
}

TEST_F(Folder, RunsFromScratchOfAFamilyThatTransformersHas) {
  for (const auto& [family, sizes] :
       {std::pair{"gpt", "layers: 2, heads: 2, width: 16, context: 32"},
        {"gpt2", "layers: 2, heads: 2, width: 16, context: 32"},
        {"llama", "layers: 2, heads: 4, kv_heads: 2, width: 16, context: 32"},
        {"qwen3", "layers: 1, heads: 2, kv_heads: 1, width: 16, context: 32, head_size: 16"}}) {
    std::string text = tiny_config();
    const std::size_t begin = text.find("model:"), end = text.find('\n', begin);
    write("scratch.yaml", text.replace(begin, end - begin, fmt::format("model: {{family: {}, {}}}", family, sizes)));
    const std::string name = fmt::format("scratch-{}", family), out = fmt::format("out-{}", family);
    const Outcome trained = muonp("train scratch.yaml --set run.steps=3 --set run.name=" + name, 2);
    ASSERT_EQ(trained.status, 0) << trained.err;
    const Outcome exported = muonp(fmt::format("export runs/{} {}", name, out));
    ASSERT_EQ(exported.status, 0) << exported.err;
    // Its loss on the same text is that of the run.
    const Outcome again = run("of-" + name, out, "--set run.steps=0", 1);
    ASSERT_EQ(again.status, 0) << again.err;
    const auto loss = [&](const std::string& run_name) {
      return json::parse(muonp(fmt::format("eval runs/{} --batches 2 --json", run_name)).out).at("loss").get<double>();
    };
    EXPECT_NEAR(loss("of-" + name), loss(name), 1e-5) << family;
  }
}

TEST_F(Folder, AGptThatTransformersHasNotIsRefused) {
  ASSERT_EQ(muonp("train tiny.yaml --set run.steps=3 --set model.positions=rotary").status, 0);
  expect_refused(muonp("export runs/run out"), {"model.positions: rotary"});
  EXPECT_FALSE(core::exists(path("out")));
}

TEST_F(Folder, WhatIsWrongWithAFolderIsSaidOnce) {
  const auto refused = [&](const std::vector<std::string>& words) {
    expect_refused(run("bad", "in", kNone, 2), words);
    EXPECT_FALSE(core::exists(path("runs/bad")));
  };
  refused({"model.from", "in", "no such folder"});
  core::make_directories(path("in"));
  refused({"config.json"});
  json config = tiny("llama");
  make("in", config, "BF16", 2);
  // Unless the configuration says otherwise the tokenizer is the folder's.
  expect_refused(muonp("train folder.yaml --set data.tokenizer=''", 2), {"in: there is no tokenizer in this folder"});
  config["hidden_act"] = "relu";
  test::put_config(path("in"), config);
  refused({"hidden_act", "relu", "silu"});
  config = tiny("llama");
  config["intermediate_size"] = 24;
  test::put_config(path("in"), config);
  refused({"[20, 12]", "[24, 12]"});
  make("in", tiny("llama"), "BF16", 2);
  core::remove_tree(path("in/model-00002-of-00002.safetensors"));
  refused({"model-00002-of-00002.safetensors", "missing"});
  make("in", tiny("llama"), "BF16", 2);
  const std::string shard = read("in/model-00001-of-00002.safetensors");
  write("in/model-00001-of-00002.safetensors", shard.substr(0, shard.size() - 3));
  refused({"model-00001-of-00002.safetensors", "not a valid safetensors file"});
  make("in", tiny("llama"), "BF16");
  write_config("in");
  expect_refused(muonp("train folder.yaml --set model.width=24", 2), {"model.width", "24", "12"});
  expect_refused(muonp("train folder.yaml --set model.context=100", 2), {"model.context", "100", "64"});
}

TEST_F(Folder, AnExportLeavesAllOrNothing) {
  make("in", tiny("llama"), "F32");
  ASSERT_EQ(run("one", "in", kNone, 1).status, 0);
  write("full/of-things", "x");
  core::make_directories(path("full"));
  write("full/of-things", "x");
  expect_refused(muonp("export runs/one full"), {"full", "empty"});
  EXPECT_EQ(core::list_directory(path("full")), std::vector<std::string>{"of-things"});
  expect_refused(muonp("export runs/one out --checkpoint 7"), {"7"});
  expect_refused(muonp("export runs/none out"), {"runs/none"});
  EXPECT_FALSE(core::exists(path("out")));
  core::make_directories(path("empty"));
  EXPECT_EQ(muonp("export runs/one empty/").status, 0);
  expect_same_tensors("in", "empty");
  // Nothing beside what was asked for.
  for (const std::string& name : core::list_directory(path(""))) EXPECT_EQ(name.find(".tmp"), std::string::npos) << name;
}

// A file for each of several hundred tensors, so that the signal comes amid them.
TEST_F(Folder, AnExportThatIsStoppedLeavesNothing) {
  json config = tiny("llama");
  config["num_hidden_layers"] = 60;
  make("in", config, "F32");
  ASSERT_EQ(run("one", "in", kNone, 1).status, 0);
  const auto half_written = [&] {
    const std::vector<std::string> names = core::list_directory(path(""));
    return std::ranges::any_of(names, [](const std::string& name) { return name.starts_with("out"); });
  };
  bool sent = false;
  const Outcome outcome = run_shell(command("export runs/one out --shard-size 0.000001"), 60, [&](int pid) {
    if (!sent && half_written()) sent = kill(pid, SIGTERM) == 0;
  });
  EXPECT_TRUE(sent);
  EXPECT_EQ(outcome.status, 128 + SIGTERM) << outcome.out << outcome.err;
  EXPECT_NE(outcome.err.find("out is as it was"), std::string::npos) << outcome.err;
  EXPECT_FALSE(half_written());
}

TEST_F(Folder, FullDiskDuringExport) {
  if (geteuid() != 0) GTEST_SKIP() << "a small file system can only be mounted by root";
  const std::string disk = path("disk");
  core::make_directories(disk);
  if (run_shell("mount -t tmpfs -o size=64k none " + disk).status != 0)
    GTEST_SKIP() << "this environment does not let a tmpfs be mounted";
  json config = tiny("llama");
  config["vocab_size"] = 2000;
  make("in", config, "F32");
  ASSERT_EQ(run("one", "in", kNone, 1).status, 0);
  expect_refused(muonp("export runs/one disk/out"), {"disk/out", "space"});
  EXPECT_TRUE(core::list_directory(disk).empty());
  expect_refused(muonp("export runs/one disk/out --shard-size 0.00003"), {"disk/out", "space"});
  EXPECT_TRUE(core::list_directory(disk).empty());
  run_shell("umount " + disk);
}

}  // namespace muonp::e2e
