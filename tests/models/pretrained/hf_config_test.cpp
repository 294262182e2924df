#include "models/pretrained/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/models/pretrained/hf_folder.h"

namespace muonp::models {
namespace {

using test::gpt2_json;
using test::json;
using test::llama_json;
using testing::AllOf;
using testing::HasSubstr;

ModelConfig read(const json& config) {
  const test::TemporaryFolder folder;
  test::put_config(folder.path(), config);
  return read_hf_config(folder.path());
}

std::string refusal(const json& config) {
  return test::message_of<core::Error>([&] { read(config); });
}

json with(json config, const json& changes) {
  config.update(changes);
  return config;
}

json without(json config, const std::string& key) {
  config.erase(key);
  return config;
}

core::NamedValues values(ModelConfig model) {
  model.from.clear();
  return core::config_values([&](core::Fields& f) { model.describe(f); });
}

TEST(HfConfig, Llama) {
  const ModelConfig m = read(llama_json());
  EXPECT_EQ(m.family, "llama");
  EXPECT_FALSE(m.from.empty());
  const LlamaConfig& c = m.llama;
  EXPECT_EQ(c.layers, 2);
  EXPECT_EQ(c.heads, 3);
  EXPECT_EQ(c.kv_heads, 1);
  EXPECT_EQ(c.head_size, 4);
  EXPECT_EQ(c.width, 12);
  EXPECT_EQ(c.hidden, 20);
  EXPECT_EQ(c.context, 32);
  EXPECT_EQ(c.vocabulary, 11);
  EXPECT_EQ(c.norm_epsilon, 1e-6);
  EXPECT_FALSE(c.tied_head);
  EXPECT_FALSE(c.qkv_bias || c.qk_norm);
  EXPECT_EQ(c.rope.kind, "default");
  EXPECT_EQ(c.rope.theta, 5000);
  // Of old files, which have neither.
  EXPECT_EQ(read(without(llama_json(), "num_key_value_heads")).llama.kv_heads, 3);
  EXPECT_EQ(read(without(llama_json(), "tie_word_embeddings")).llama.tied_head, false);
  EXPECT_EQ(read(with(llama_json(), {{"head_dim", 6}})).llama.head_size, 6);
}

TEST(HfConfig, Gpt2) {
  const GptConfig c = read(gpt2_json()).gpt;
  EXPECT_EQ(c.layers, 2);
  EXPECT_EQ(c.heads, 2);
  EXPECT_EQ(c.width, 8);
  EXPECT_EQ(c.context, 16);
  EXPECT_EQ(c.vocabulary, 11);
  EXPECT_EQ(c.hidden(), 32);
  EXPECT_TRUE(c.tied_head);
  EXPECT_EQ(c.dropout, 0);  // pretraining's
  EXPECT_EQ(read(with(gpt2_json(), {{"n_inner", 20}})).gpt.hidden(), 20);
}

TEST(HfConfig, TheOtherFamiliesSayWhatTheyAre) {
  const auto of = [](const char* family, const json& more) {
    return read(with(with(llama_json(), {{"model_type", family}}), more));
  };
  const ModelConfig qwen2 = of("qwen2", {{"use_sliding_window", false}, {"sliding_window", 8}, {"max_window_layers", 21}});
  EXPECT_TRUE(qwen2.llama.qkv_bias);
  EXPECT_EQ(qwen2.llama.window, 0);
  const ModelConfig qwen3 = of("qwen3", json::object());
  EXPECT_TRUE(qwen3.llama.qk_norm);
  EXPECT_EQ(qwen3.llama.head_size, 128);  // whatever width and heads are
  EXPECT_EQ(of("mistral", {{"sliding_window", 8}}).llama.window, 8);
  EXPECT_EQ(of("mistral", {{"sliding_window", nullptr}}).llama.window, 0);
  EXPECT_EQ(of("mistral", json::object()).llama.window, 4096);  // by the default of transformers
  EXPECT_EQ(of("qwen2", {{"num_key_value_heads", nullptr}}).llama.kv_heads, 3);
}

TEST(HfConfig, SlidingWindowsOfQwen) {
  const auto window = [](const json& more) {
    return read(with(with(llama_json(), {{"model_type", "qwen2"}, {"sliding_window", 8}}), more)).llama.window;
  };
  EXPECT_EQ(window(json::object()), 0);
  EXPECT_EQ(window({{"use_sliding_window", true}}), 0);  // from the 28th layer on by default
  EXPECT_EQ(window({{"use_sliding_window", true}, {"max_window_layers", 2}}), 0);
  EXPECT_EQ(window({{"use_sliding_window", true}, {"max_window_layers", 0}}), 8);
  EXPECT_EQ(window({{"layer_types", {"full_attention", "full_attention"}}}), 0);
  EXPECT_EQ(window({{"use_sliding_window", true}, {"layer_types", {"sliding_attention", "sliding_attention"}}}), 8);
}

TEST(HfConfig, RopeInBothSpellings) {
  const json llama3 = {
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 16}};
  const auto older = [&](json scaling) { return read(with(llama_json(), {{"rope_scaling", scaling}})); };
  const auto newer = [&](json scaling) {
    scaling["rope_theta"] = 5000.0;
    return read(with(without(without(llama_json(), "rope_theta"), "rope_scaling"), {{"rope_parameters", scaling}}));
  };
  for (const json& scaling :
       {json{{"rope_type", "default"}}, json{{"rope_type", "linear"}, {"factor", 2}},
        json{{"rope_type", "dynamic"}, {"factor", 4.0}}, with(llama3, {{"rope_type", "llama3"}}),
        json{{"rope_type", "yarn"}, {"factor", 4.0}, {"beta_fast", 16}, {"original_max_position_embeddings", 8}}})
    EXPECT_EQ(older(scaling).llama.rope, newer(scaling).llama.rope) << scaling;
  const RopeConfig rope = older(with(llama3, {{"type", "llama3"}})).llama.rope;  // as it was first called
  EXPECT_EQ(rope.kind, "llama3");
  EXPECT_EQ(rope.theta, 5000);
  EXPECT_EQ(rope.factor, 8);
  EXPECT_EQ(rope.original_context, 16);
  EXPECT_EQ(older({{"type", "dynamic"}, {"factor", 2.0}}).llama.rope.original_context, 32);
  // One object for each type of layer.
  const json one = {{"rope_type", "default"}, {"rope_theta", 70.0}};
  const auto of_types = [&](const json& full, const json& sliding) {
    return with(llama_json(), {{"rope_parameters", {{"full_attention", full}, {"sliding_attention", sliding}}}});
  };
  EXPECT_EQ(read(of_types(one, one)).llama.rope.theta, 70);
  EXPECT_THAT(refusal(of_types(one, {{"rope_type", "default"}, {"rope_theta", 7.0}})), HasSubstr("rope_parameters"));
}

TEST(HfConfig, WhatIsNotSupportedIsNamedWithItsValue) {
  struct Case {
    json config;
    std::vector<std::string> words;
  };
  const json mistral = with(llama_json(), {{"model_type", "mistral"}});
  const Case cases[] = {
      {with(llama_json(), {{"model_type", "gemma"}}), {"model_type", "gemma", "llama", "qwen3", "gpt2"}},
      {without(llama_json(), "model_type"), {"model_type", "missing"}},
      {without(llama_json(), "hidden_size"), {"hidden_size", "missing"}},
      {with(llama_json(), {{"hidden_size", "12"}}), {"hidden_size", "\"12\"", "integer"}},
      {with(llama_json(), {{"hidden_size", -12}}), {"hidden_size", "-12"}},
      {with(llama_json(), {{"num_attention_heads", 5}}), {"num_attention_heads", "5", "hidden_size, 12"}},
      {with(llama_json(), {{"hidden_act", "gelu"}}), {"hidden_act", "gelu", "silu"}},
      {with(llama_json(), {{"attention_bias", true}}), {"attention_bias", "true"}},
      {with(llama_json(), {{"mlp_bias", true}}), {"mlp_bias", "true"}},
      {with(llama_json(), {{"pretraining_tp", 2}}), {"pretraining_tp", "2"}},
      {with(llama_json(), {{"rope_interleaved", true}}), {"rope_interleaved", "true"}},
      {with(llama_json(), {{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor", "0.5"}},
      {with(llama_json(), {{"rope_scaling", {{"type", "longrope"}, {"factor", 2}}}}),
       {"rope_scaling.type", "longrope", "yarn"}},
      {with(llama_json(), {{"rope_scaling", {{"type", "linear"}}}}), {"rope_scaling.factor", "missing"}},
      {with(llama_json(), {{"rope_scaling", {{"type", "linear"}, {"factor", 2}, {"short_factor", {1.0}}}}}),
       {"rope_scaling.short_factor"}},
      {with(llama_json(), {{"rope_scaling", "linear"}}), {"rope_scaling", "object"}},
      {with(llama_json(), {{"rms_norm_eps", "small"}}), {"rms_norm_eps", "small", "number"}},
      {with(llama_json(), {{"tie_word_embeddings", 1}}), {"tie_word_embeddings", "1", "true or false"}},
      {with(llama_json(), {{"quantization_config", {{"quant_method", "gptq"}}}}), {"quantization_config", "gptq"}},
      {with(llama_json(), {{"num_local_experts", 8}}), {"num_local_experts", "8"}},
      {with(llama_json(), {{"logit_scale", 0.5}}), {"logit_scale", "0.5"}},
      {without(mistral, "num_key_value_heads"), {"num_key_value_heads", "missing"}},
      {with(llama_json(),
            {{"model_type", "qwen2"}, {"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 1}}),
       {"max_window_layers", "1"}},
      {with(llama_json(),
            {{"model_type", "qwen3"}, {"sliding_window", 8}, {"layer_types", {"full_attention", "sliding_attention"}}}),
       {"layer_types", "sliding_attention"}},
      {with(gpt2_json(), {{"activation_function", "relu"}}), {"activation_function", "relu", "gelu_new"}},
      {with(gpt2_json(), {{"layer_norm_epsilon", 1e-6}}), {"layer_norm_epsilon", "1e-06"}},
      {with(gpt2_json(), {{"scale_attn_by_inverse_layer_idx", true}}), {"scale_attn_by_inverse_layer_idx"}},
      {with(gpt2_json(), {{"add_cross_attention", true}}), {"add_cross_attention"}},
  };
  for (const Case& c : cases) {
    const std::string message = refusal(c.config);
    EXPECT_THAT(message, HasSubstr("config.json")) << c.config;
    for (const std::string& word : c.words) EXPECT_THAT(message, HasSubstr(word));
  }
}

TEST(HfConfig, KeysThatTurnNothingOnAreFine) {
  EXPECT_EQ(refusal(with(llama_json(), {{"some_new_switch", false}, {"some_list", json::array()}, {"some_value", nullptr}})),
            "");
  EXPECT_THAT(refusal(with(llama_json(), {{"some_new_switch", true}})), HasSubstr("some_new_switch is true"));
}

TEST(HfConfig, NoFolderAndNoJson) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(test::message_of<core::Error>([&] { read_hf_config(folder / "none"); }), HasSubstr("none: no such folder"));
  EXPECT_THAT(test::message_of<core::Error>([&] { read_hf_config(folder.path()); }), HasSubstr("config.json"));
  for (const std::string text : {"", "{", "[1]", R"({"hidden_size": 1, "hidden_size": 2})"}) {
    test::put(folder / "config.json", text);
    EXPECT_THAT(test::message_of<core::Error>([&] { read_hf_config(folder.path()); }), HasSubstr("config.json: ")) << text;
  }
}

TEST(HfConfig, WhatIsWrittenReadsBackTheSame) {
  std::vector<json> configs = {llama_json(), gpt2_json(), with(gpt2_json(), {{"tie_word_embeddings", false}})};
  configs.push_back(with(llama_json(), {{"model_type", "qwen2"}}));
  configs.push_back(
      with(llama_json(),
           {{"model_type", "qwen2"}, {"sliding_window", 8}, {"use_sliding_window", true}, {"max_window_layers", 0}}));
  configs.push_back(with(llama_json(), {{"model_type", "qwen3"}, {"head_dim", 8}, {"tie_word_embeddings", true}}));
  configs.push_back(with(llama_json(), {{"model_type", "mistral"}, {"sliding_window", 4}}));
  for (const json& scaling : {json{{"type", "linear"}, {"factor", 2}}, json{{"type", "dynamic"}, {"factor", 2}},
                              json{{"type", "yarn"},
                                   {"factor", 2.5},
                                   {"beta_slow", 2},
                                   {"mscale", 0.5},
                                   {"mscale_all_dim", 0.75},
                                   {"truncate", false}},
                              json{{"type", "llama3"},
                                   {"factor", 8},
                                   {"low_freq_factor", 1},
                                   {"high_freq_factor", 4},
                                   {"original_max_position_embeddings", 16}}})
    configs.push_back(with(llama_json(), {{"rope_scaling", scaling}}));
  for (const json& config : configs) {
    const ModelConfig model = read(config).resolved();
    const json text = json::parse(write_hf_config(model, "bfloat16"));
    EXPECT_EQ(values(read(text).resolved()), values(model)) << text.dump(2);
    EXPECT_EQ(text.at("torch_dtype"), "bfloat16");
  }
}

TEST(HfConfig, AGptWithoutACounterpartIsRefusedWithWhatIsInTheWay) {
  ModelConfig model;
  model.gpt.layers = model.gpt.heads = 1;
  model.gpt.width = model.gpt.context = 8;
  model.gpt.vocabulary = 16;
  EXPECT_EQ(json::parse(write_hf_config(model.resolved(), "float32")).at("model_type"), "gpt2");
  model.gpt.positions = "rotary";
  model.gpt.norm = "rms_norm";
  const std::string message = test::message_of<core::Error>([&] { write_hf_config(model.resolved(), "float32"); });
  EXPECT_THAT(message, AllOf(HasSubstr("model.positions: rotary, model.norm: rms_norm"), HasSubstr("checkpoint export")));
}

TEST(HfConfig, AnotherDtypeChangesNothingElse) {
  const std::string text = R"({"b": 1, "a": [1.5], "torch_dtype": "float32"})";
  const json changed = json::parse(with_dtype(text, "bfloat16", "config.json"));
  EXPECT_EQ(changed, (json{{"b", 1}, {"a", {1.5}}, {"torch_dtype", "bfloat16"}}));
  EXPECT_EQ(json::parse(with_dtype(R"({"dtype": "float16"})", "float32", "")), (json{{"dtype", "float32"}}));
}

}  // namespace
}  // namespace muonp::models
