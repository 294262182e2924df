// Adapters from end to end: trained beside frozen weights, gone on with, exported as PEFT's files and merged, read again.
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/files/files.h"
#include "core/files/safetensors.h"
#include "models/pretrained/folder_tensors.h"
#include "models/pretrained/pretrained_weights.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

using nlohmann::json;

class LoraRun : public ProgramTest {
 protected:
  // A folder `base`: random weights of a Llama.
  void make_base() const {
    with_model("family: llama, layers: 2, heads: 4, kv_heads: 2, width: 16, hidden: 24, context: 32");
    ok("train model.yaml --set run.name=base --set run.steps=0");
    ok("export runs/base base");
  }
  void with_model(const std::string& keys) const {
    std::string text = tiny_config();
    const std::size_t begin = text.find("model:"), end = text.find('\n', begin);
    text.replace(begin, end - begin, "model: {" + keys + "}");
    const std::string tokens = "data: {";
    write("model.yaml", text.insert(text.find(tokens) + tokens.size(), "tokenizer: byte, "));
  }
  static constexpr const char* kLora = "from: base, lora: {rank: 2, alpha: 4, modules: [q_proj, down_proj]";
  Outcome ok(const std::string& arguments, int ranks = 0) const {
    Outcome outcome = muonp(arguments, ranks);
    EXPECT_EQ(outcome.status, 0) << arguments << "\n" << outcome.out << outcome.err;
    return outcome;
  }
  void refused(const std::string& arguments, const std::vector<std::string>& words, int ranks = 0) const {
    const Outcome outcome = muonp(arguments, ranks);
    EXPECT_EQ(outcome.status, 1) << outcome.out << outcome.err;
    for (const std::string& word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos) << "no '" << word << "' in\n" << outcome.err;
  }
  // The stand-in's runs are too short for it: their steps' losses differ by their tokens.
  void expect_learning(const std::string& name) const {
    const std::vector<double> losses = metric(name, "loss");
    if (!test::on_gpu()) {
      EXPECT_LT(losses.back(), losses.front()) << name;
    }
  }
  std::vector<float> tensor(const models::FolderTensors& of, const std::string& name) const {
    const auto* t = of.find(name);
    EXPECT_NE(t, nullptr) << name;
    if (t == nullptr) return {};
    std::vector<float> values(static_cast<std::size_t>(core::element_count(t->entry->spec.shape)));
    models::read_elements(*t->entry, 0, std::ssize(values), values.data());
    return values;
  }
};

TEST_F(LoraRun, TrainsGoesOnAndIsExportedAndMerged) {
  make_base();
  with_model(std::string(kLora) + "}");
  // As one rank, at every stage; and what is left out of the checkpoints comes from the folder when a run goes on.
  ok("train model.yaml --set run.name=one --set model.lora.dropout=0.1");
  ok("train model.yaml --set run.name=four --set parallel.zero=3 --set run.steps=12 --set schedule.kind=constant", 4);
  ok("train model.yaml --set run.name=two --set model.lora.dropout=0.1 --set parallel.zero=2 --set checkpoint.every=10", 3);
  EXPECT_LT(difference("one", "two"), 1e-3);
  ok("train model.yaml --set run.name=four --set parallel.zero=1 --set schedule.kind=constant", 2);
  EXPECT_EQ(metric("four", "loss").size(), steps());
  expect_learning("one");

  ok("export runs/four adapters");
  ok("export runs/four merged --merge");
  const json config = json::parse(read("adapters/adapter_config.json"));
  EXPECT_EQ(config["target_modules"], (json{"down_proj", "q_proj"}));
  EXPECT_EQ(config["r"], 2);
  EXPECT_EQ(config["base_model_name_or_path"], "base");
  const core::SafetensorsReader file(path("adapters/adapter_model.safetensors"));
  EXPECT_EQ(file.entries().size(), 8u);
  const auto factor = [&](const std::string& name) {
    const auto* entry = file.find("base_model.model.model.layers.1." + name);
    std::vector<float> values(static_cast<std::size_t>(core::element_count(entry->spec.shape)));
    models::read_elements(*entry, 0, std::ssize(values), values.data());
    return values;
  };
  const models::FolderTensors base(path("base")), merged(path("merged"));
  ASSERT_EQ(base.all().size(), merged.all().size());
  for (const auto& [name, t] : base.all())
    if (!name.ends_with("q_proj.weight") && !name.ends_with("down_proj.weight")) {
      EXPECT_EQ(tensor(base, name), tensor(merged, name)) << name;
    }
  const std::string down = "model.layers.1.mlp.down_proj.weight";
  const std::vector<float> w = tensor(base, down), sum = tensor(merged, down), a = factor("mlp.down_proj.lora_A.weight"),
                           b = factor("mlp.down_proj.lora_B.weight");
  ASSERT_EQ(w.size(), 16u * 24u);
  double moved = 0;
  for (std::size_t o = 0; o < 16; ++o)
    for (std::size_t i = 0; i < 24; ++i) {
      const double product = 2 * (double{b[o * 2]} * a[i] + double{b[o * 2 + 1]} * a[24 + i]);
      EXPECT_NEAR(sum[o * 24 + i], w[o * 24 + i] + product, 1e-6);
      moved = std::max(moved, std::abs(product));
    }
  EXPECT_GT(moved, 1e-4);

  // The adapters of a run are a start for another, whose first loss is where the merged model's is.
  with_model("from: base, lora: {from: adapters}");
  ok("train model.yaml --set run.name=again --set run.steps=1 --set schedule.warmup=0");
  with_model("from: merged");
  ok("train model.yaml --set run.name=from-merged --set run.steps=1 --set schedule.warmup=0");
  EXPECT_NEAR(metric("again", "loss")[0], metric("from-merged", "loss")[0], 1e-4);
  // Readers put the two together.
  EXPECT_EQ(ok("generate runs/again --checkpoint 1 --temperature 0 --tokens 4 --ids").status, 0);
}

TEST_F(LoraRun, EveryRuleTrains) {
  make_base();
  with_model(std::string(kLora) + "}");
  for (const char* rule : {"b_only", "both", "whitened"}) {
    ok(fmt::format("train model.yaml --set run.name={0} --set optimizer.matrices.lora={0} --set parallel.zero=2", rule), 2);
    expect_learning(rule);
  }
  const Outcome plan = ok("plan model.yaml --ranks 2");
  EXPECT_NE(plan.out.find("LoRA of rank 2 trains"), std::string::npos) << plan.out;
}

TEST_F(LoraRun, SaysWhatIsWrong) {
  make_base();
  with_model("from: base, lora: {rank: 2, modules: [q_prj]}");
  refused("train model.yaml", {"model.lora.modules: q_prj matches no linear layer", "model.layers.0.self_attn.q_proj"}, 2);
  with_model("from: base, lora: {modules: [q_proj]}");
  refused("train model.yaml", {"model.lora.rank is 0"});
  with_model("from: base, lora: {from: nowhere}");
  refused("train model.yaml", {"nowhere/adapter_config.json is not there"});
  with_model(std::string(kLora) + "}");
  ok("train model.yaml --set run.name=run --set run.steps=4 --set schedule.kind=constant");
  refused("train model.yaml --set run.name=run --set run.steps=4 --set model.lora.alpha=8",
          {"model.lora.alpha: 8.0 here, 4"});
  refused("export runs/base out --merge", {"has no adapters"});
  // Without the frozen weights nothing goes on, but the adapters can be had.
  core::rename_path(path("base"), path("moved"));
  refused("train model.yaml --set run.name=run --set schedule.kind=constant", {"its weights are frozen"}, 2);
  refused("export runs/run merged --merge", {"its weights are frozen"});
  EXPECT_FALSE(core::exists(path("merged")));
  ok("export runs/run adapters");
}

}  // namespace muonp::e2e
