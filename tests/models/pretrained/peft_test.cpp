// Adapters in PEFT's files, written here byte by byte.
#include "models/pretrained/peft.h"

#include <gmock/gmock.h>

#include "models/pretrained/hf_config.h"
#include "tests/models/pretrained/hf_folder.h"

namespace muonp::models {
namespace {

using core::ParameterKind;
using test::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

// As PEFT 0.17 writes it.
json adapter_json() {
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", "somewhere"},
          {"r", 2},
          {"lora_alpha", 3},
          {"lora_dropout", 0.05},
          {"target_modules", {"v_proj", "q_proj"}},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"use_rslora", false},
          {"use_dora", false},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"rank_pattern", json::object()},
          {"alpha_pattern", json::object()},
          {"modules_to_save", nullptr},
          {"layers_to_transform", nullptr},
          {"trainable_token_indices", nullptr}};
}

class Peft : public testing::Test {
 protected:
  void put(const json& config) const { test::put(folder_.path() + "/adapter_config.json", config.dump()); }
  void put_tensors(const std::vector<test::TensorInFile>& tensors) const {
    test::put(folder_.path() + "/adapter_model.safetensors", test::safetensors_bytes(tensors));
  }
  LoraConfig given() const {
    LoraConfig c;
    c.from = folder_.path();
    return c;
  }
  std::string message(const json& config, const LoraConfig& mine) const {
    put(config);
    try {
      with_adapters(mine);
    } catch (const core::Error& error) {
      return error.what();
    }
    return "";
  }
  ModelConfig model(const std::string& family) const {
    ModelConfig c;
    c.family = family;
    c.llama.layers = 1;
    c.llama.heads = 2;
    c.llama.kv_heads = 1;
    c.llama.width = 8;
    c.llama.hidden = 12;
    c.llama.context = 8;
    c.llama.vocabulary = 5;
    c.gpt.layers = 1;
    c.gpt.heads = 2;
    c.gpt.width = 8;
    c.gpt.context = 8;
    c.gpt.vocabulary = 5;
    c.lora = given();
    c.lora.rank = 2;
    return c.resolved();
  }

  test::TemporaryFolder folder_;
};

TEST_F(Peft, TheConfigurationIsRead) {
  put(adapter_json());
  const LoraConfig c = with_adapters(given());
  EXPECT_EQ(c.rank, 2);
  EXPECT_EQ(c.alpha, 3);
  EXPECT_EQ(c.dropout, 0.05);
  EXPECT_FALSE(c.rank_stabilized);
  EXPECT_THAT(c.modules, ::testing::ElementsAre("q_proj", "v_proj"));
  LoraConfig mine = given();
  mine.dropout = 0.5;  // is how it is trained
  mine.rank = 2;
  EXPECT_EQ(with_adapters(mine).dropout, 0.5);
}

TEST_F(Peft, WhatIsNotSupportedIsNamed) {
  const auto with = [](const char* key, const json& value) {
    json config = adapter_json();
    config[key] = value;
    return config;
  };
  EXPECT_THAT(message(with("use_dora", true), given()),
              AllOf(HasSubstr("adapter_config.json"), HasSubstr("use_dora is true")));
  EXPECT_THAT(message(with("peft_type", "IA3"), given()), AllOf(HasSubstr("peft_type"), HasSubstr("IA3")));
  EXPECT_THAT(message(with("bias", "all"), given()), HasSubstr("bias"));
  EXPECT_THAT(message(with("modules_to_save", {"lm_head"}), given()), HasSubstr("modules_to_save"));
  EXPECT_THAT(message(with("rank_pattern", {{"q_proj", 4}}), given()), HasSubstr("rank_pattern"));
  EXPECT_THAT(message(with("target_modules", json::array()), given()), HasSubstr("target_modules is []"));
  EXPECT_THAT(message(with("target_modules", nullptr), given()), HasSubstr("target_modules is missing"));
  EXPECT_THAT(message(with("r", 0), given()), HasSubstr("r is 0"));
  LoraConfig mine = given();
  mine.rank = 5;
  EXPECT_THAT(message(adapter_json(), mine), AllOf(HasSubstr("r is 2"), HasSubstr("model.lora.rank is 5 here")));
}

// PEFT takes a part of the frozen weights away where such adapters begin, and again when it reads them.
TEST_F(Peft, AdaptersThatBelongToOtherWeightsThanTheBasesAreRefused) {
  const auto with = [](const json& begin) {
    json config = adapter_json();
    config["init_lora_weights"] = begin;
    return config;
  };
  for (const char* begin : {"pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga", "another"})
    EXPECT_THAT(message(with(begin), given()), AllOf(HasSubstr("init_lora_weights"), HasSubstr(begin)));
  for (const json& begin :
       {json(true), json(false), json(), json("gaussian"), json("eva"), json("mica"), json("orthogonal")})
    EXPECT_EQ(message(with(begin), given()), "");
}

TEST_F(Peft, WhatARegularExpressionChoseIsSeenFromTheAdapters) {
  const std::string layer = "base_model.model.model.layers.1.";
  put_tensors({{layer + "mlp.up_proj.lora_A.weight", "F32", {2, 8}},
               {layer + "mlp.up_proj.lora_B.weight", "F32", {12, 2}},
               {layer + "self_attn.q_proj.lora_A.weight", "F32", {2, 8}},
               {layer + "self_attn.q_proj.lora_B.weight", "F32", {8, 2}}});
  json config = adapter_json();
  config["target_modules"] = R"(.*\.1\.(mlp\.up|self_attn\.q)_proj)";
  put(config);
  EXPECT_THAT(with_adapters(given()).modules,
              ::testing::ElementsAre("model.layers.1.mlp.up_proj", "model.layers.1.self_attn.q_proj"));
  put_tensors({{"lm_head.weight", "F32", {5, 8}}});
  EXPECT_THAT(message(config, given()), AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr("lora_A.weight")));
}

TEST_F(Peft, TensorsHaveThePathsOfTheEcosystem) {
  const auto llama = make_model(model("llama")), gpt = make_model(model("gpt"));
  EXPECT_EQ(peft_name("llama", *core::trained_of(llama->parameters())[0]),
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  EXPECT_EQ(peft_name("gpt", *core::trained_of(gpt->parameters())[1]),
            "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight");
  const json written = json::parse(write_adapter_config(model("llama"), llama->parameters(), "base"));
  EXPECT_EQ(written["target_modules"], (json{"q_proj", "v_proj"}));
  EXPECT_EQ(written["r"], 2);
  EXPECT_EQ(written["lora_alpha"], 16);
  EXPECT_EQ(written["base_model_name_or_path"], "base");
  EXPECT_EQ(written["fan_in_fan_out"], false);
  EXPECT_EQ(json::parse(write_adapter_config(model("gpt2"), gpt->parameters(), ""))["fan_in_fan_out"], true);
}

TEST_F(Peft, WhatIsWrittenIsReadAgain) {
  ModelConfig c = model("llama");
  c.lora.modules = {"layers.0.mlp.up_proj", "o_proj"};
  c.lora.alpha = 2.5;
  c.lora.rank_stabilized = true;
  c.lora.dropout = 0.25;
  put(json::parse(write_adapter_config(c, make_model(c)->parameters(), "")));
  const LoraConfig again = with_adapters(given());
  EXPECT_EQ(again.rank, 2);
  EXPECT_EQ(again.alpha, 2.5);
  EXPECT_EQ(again.dropout, 0.25);
  EXPECT_TRUE(again.rank_stabilized);
  EXPECT_THAT(again.modules, ::testing::ElementsAre("o_proj", "up_proj"));
}

TEST_F(Peft, FactorsAreReadAndWhatDoesNotFitIsNamed) {
  const ModelConfig c = model("llama");
  const auto made = make_model(c);
  std::vector<test::TensorInFile> tensors;
  for (const core::Parameter* p : core::trained_of(made->parameters()))
    tensors.push_back({peft_name("llama", *p), "F16", p->shape});
  put_tensors(tensors);
  const AdapterWeights weights(folder_.path(), c, made->parameters());
  const core::Parameter& a = *core::trained_of(made->parameters())[0];
  std::vector<float> values(5);
  weights.read(a, 3, 5, values.data());
  for (std::int64_t i = 0; i < 5; ++i) EXPECT_EQ(values[core::at(i)], test::weight_value(tensors[0].name, 3 + i));

  const auto refused = [&](std::vector<test::TensorInFile> changed) -> std::string {
    put_tensors(changed);
    try {
      AdapterWeights(folder_.path(), c, made->parameters());
    } catch (const core::Error& error) {
      return error.what();
    }
    return "";
  };
  auto changed = tensors;
  changed[0].shape = {4, 8};
  EXPECT_THAT(refused(changed), AllOf(HasSubstr("q_proj.lora_A.weight"), HasSubstr("[4, 8]"), HasSubstr("[2, 8]")));
  changed = tensors;
  changed.pop_back();
  EXPECT_THAT(refused(changed), AllOf(HasSubstr("it has no tensor"), HasSubstr("v_proj.lora_B.weight")));
  changed = tensors;
  changed.push_back({"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "F32", {2, 8}});
  EXPECT_THAT(refused(changed), HasSubstr("up_proj.lora_A.weight' is no adapter of this model"));
  changed = tensors;
  changed[1].type = "U8";
  EXPECT_THAT(refused(changed), HasSubstr("the type U8"));
}

}  // namespace
}  // namespace muonp::models
