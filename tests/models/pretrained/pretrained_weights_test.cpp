#include "models/pretrained/pretrained_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <malloc.h>

#include <fstream>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/zero/sharded_parameters.h"
#include "models/pretrained/hf_config.h"
#include "models/pretrained/hf_names.h"
#include "tests/models/pretrained/hf_folder.h"
#include "tests/support/test_device.h"

namespace muonp::models {
namespace {

using test::gpt2_json;
using test::json;
using test::llama_json;
using test::TensorInFile;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class PretrainedTest : public testing::Test {
 protected:
  // A folder of that configuration, whose tensors are those of the model, with its file's names.
  void make(const json& config, const std::string& type = "F32", bool zeros = false) {
    test::put_config(folder_.path(), config);
    model_config_ = read_hf_config(folder_.path());
    model_ = make_model(model_config_);
    tensors_.clear();
    for (const core::Parameter* p : model_->parameters()) {
      const bool transposed = is_transposed(model_config_.family, p->name);
      tensors_.push_back({p->name, type, p->shape, transposed});
      if (transposed) std::swap(tensors_.back().shape[0], tensors_.back().shape[1]);
    }
    write(zeros);
  }
  void write(bool zeros = false) const { test::put(folder_ / kSingleFile, test::safetensors_bytes(tensors_, zeros)); }
  TensorInFile& tensor(const std::string& name) { return *std::ranges::find(tensors_, name, &TensorInFile::name); }
  void erase(const std::string& name) {
    std::erase_if(tensors_, [&](const TensorInFile& t) { return t.name == name; });
  }

  PretrainedWeights open() const { return {folder_.path(), model_config_, model_->parameters()}; }
  std::string refusal() const {
    write();
    return test::message_of<core::Error>([&] { open(); });
  }
  core::Parameter& parameter(const std::string& name) const {
    return **std::ranges::find(model_->parameters(), name, &core::Parameter::name);
  }
  // Every element, read in parts of `part` elements; the file's name of the tensor is `in_file`.
  void expect_values(const PretrainedWeights& weights, const core::Parameter& p, std::int64_t part,
                     const std::string& in_file) const {
    for (std::int64_t begin = 0; begin < p.size(); begin += part) {
      std::vector<float> values(core::at(std::min(part, p.size() - begin)));
      weights.read(p, begin, std::ssize(values), values.data());
      for (std::int64_t i = 0; i < std::ssize(values); ++i)
        ASSERT_EQ(values[core::at(i)], test::weight_value(in_file, begin + i)) << p.name << " " << begin + i;
    }
  }

  test::TemporaryFolder folder_;
  ModelConfig model_config_;
  std::unique_ptr<LanguageModel> model_;
  std::vector<TensorInFile> tensors_;
};

TEST_F(PretrainedTest, EveryTypeAndEveryPartOfEveryFamily) {
  json qwen = llama_json();
  qwen["model_type"] = "qwen3";
  qwen["head_dim"] = 4;
  for (const json& config : {llama_json(), gpt2_json(), qwen})
    for (const char* type : {"F32", "BF16", "F16", "F64"}) {
      make(config, type);
      const PretrainedWeights weights = open();
      for (const core::Parameter* p : model_->parameters())
        for (const std::int64_t part : {std::int64_t{1} << 40, std::int64_t{7}}) expect_values(weights, *p, part, p->name);
    }
}

TEST_F(PretrainedTest, Gpt2LiesTransposedInTheFile) {
  make(gpt2_json());
  const PretrainedWeights weights = open();
  const auto found = std::ranges::find(weights.tensors(), "transformer.h.0.attn.c_attn.weight", &PretrainedTensor::tensor);
  ASSERT_NE(found, weights.tensors().end());
  EXPECT_TRUE(found->transposed);
  EXPECT_EQ(tensor("transformer.h.0.attn.c_attn.weight").shape, (core::Shape{8, 24}));
  EXPECT_EQ(parameter("transformer.h.0.attn.c_attn.weight").shape, (core::Shape{24, 8}));
}

TEST_F(PretrainedTest, ATrunkAloneHasNoPrefix) {
  make(gpt2_json());
  for (TensorInFile& t : tensors_) t.name = t.name.substr(std::string("transformer.").size());
  write();
  const PretrainedWeights gpt = open();
  for (const core::Parameter* p : model_->parameters()) expect_values(gpt, *p, 100, p->name.substr(12));
  EXPECT_EQ(gpt.tensors()[0].tensor, "wte.weight");

  json tied = llama_json();
  tied["tie_word_embeddings"] = true;
  make(tied);
  for (TensorInFile& t : tensors_) t.name = t.name.substr(std::string("model.").size());
  write();
  const PretrainedWeights llama = open();
  for (const core::Parameter* p : model_->parameters()) expect_values(llama, *p, 100, p->name.substr(6));
}

TEST_F(PretrainedTest, TensorsThatAreNoWeightsAreLeftAlone) {
  make(llama_json());
  tensors_.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}});
  EXPECT_EQ(refusal(), "");
  make(gpt2_json());
  tensors_.push_back({"transformer.h.0.attn.bias", "U8", {1, 1, 16, 16}});
  tensors_.push_back({"transformer.h.1.attn.masked_bias", "F32", {}});
  EXPECT_EQ(refusal(), "");
  tensors_.push_back({"transformer.h.2.ln_1.weight", "F32", {8}});
  tensors_.push_back({"score.weight", "F32", {2, 8}});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("score.weight"), HasSubstr("transformer.h.2.ln_1.weight"), HasSubstr("gpt2")));
}

TEST_F(PretrainedTest, ATiedHeadMayBeThereTooIfItIsTheSame) {
  json config = llama_json();
  config["tie_word_embeddings"] = true;
  make(config, "BF16");
  const std::string embedding = "model.embed_tokens.weight";
  EXPECT_EQ(open().tensors().size(), tensors_.size());
  // The same values under another name.
  TensorInFile head = tensor(embedding);
  std::vector<TensorInFile> all = tensors_;
  all.push_back(head);
  all.back().name = "lm_head.weight";
  std::string bytes = test::safetensors_bytes(all);
  const std::string data = test::data_of(head);
  bytes.replace(bytes.size() - data.size(), data.size(), data);
  test::put(folder_ / kSingleFile, bytes);
  const PretrainedWeights weights = open();
  expect_values(weights, parameter(embedding), 50, embedding);
  EXPECT_EQ(weights.tensors().size(), tensors_.size() + 1);
  EXPECT_EQ(weights.tensors()[1], (PretrainedTensor{"lm_head.weight", embedding, core::StoredType::bf16, false}));
  // One element of it differs: who reads it says so, who reads others does not.
  bytes[bytes.size() - 1] ^= 1;
  test::put(folder_ / kSingleFile, bytes);
  const PretrainedWeights differing = open();
  std::vector<float> values(core::at(parameter(embedding).size()));
  differing.read(parameter(embedding), 0, 20, values.data());
  const std::string message = test::message_of<core::Error>(
      [&] { differing.read(parameter(embedding), 20, std::ssize(values) - 20, values.data()); });
  EXPECT_THAT(message, AllOf(HasSubstr("lm_head.weight"), HasSubstr(embedding), HasSubstr("tie_word_embeddings")));
}

TEST_F(PretrainedTest, WhatIsMissing) {
  make(llama_json());
  erase("model.norm.weight");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("config.json")));
  make(llama_json());
  erase("lm_head.weight");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("lm_head.weight"), HasSubstr("tie_word_embeddings")));
  erase("model.layers.0.mlp.up_proj.weight");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("model.layers.0.mlp.up_proj.weight"), HasSubstr("lm_head.weight")));
}

TEST_F(PretrainedTest, ShapesThatDisagreeWithTheConfigurationAreBothNamed) {
  make(llama_json());
  tensor("model.layers.1.self_attn.k_proj.weight").shape = {8, 12};
  EXPECT_THAT(refusal(), AllOf(HasSubstr("model.layers.1.self_attn.k_proj.weight"), HasSubstr("[8, 12]"),
                               HasSubstr("[4, 12]"), HasSubstr("model.safetensors"), HasSubstr("config.json")));
  make(gpt2_json());
  tensor("transformer.h.0.mlp.c_fc.weight").shape = {32, 8};
  EXPECT_THAT(refusal(), AllOf(HasSubstr("[32, 8]"), HasSubstr("[8, 32]")));
}

TEST_F(PretrainedTest, ATypeThatIsNoFloat) {
  make(llama_json());
  tensor("model.norm.weight").type = "I8";
  EXPECT_THAT(refusal(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("I8"), HasSubstr("BF16")));
}

TEST_F(PretrainedTest, AFileThatIsShortenedWhileItIsRead) {
  make(llama_json());
  const PretrainedWeights weights = open();
  std::filesystem::resize_file(folder_ / kSingleFile, 100);
  std::vector<float> values(core::at(parameter("lm_head.weight").size()));
  EXPECT_THAT(test::message_of<core::Error>(
                  [&] { weights.read(parameter("lm_head.weight"), 0, std::ssize(values), values.data()); }),
              HasSubstr("shortened"));
}

TEST_F(PretrainedTest, IdentityIsOfTheContentWhereverItLies) {
  make(llama_json());
  const std::string one = open().identity();
  EXPECT_EQ(open().identity(), one);
  const test::TemporaryFolder other;
  std::filesystem::copy(folder_ / kSingleFile, other / kSingleFile);
  EXPECT_EQ(PretrainedWeights(other.path(), model_config_, model_->parameters()).identity(), one);
  std::string bytes = test::get(folder_ / kSingleFile);
  bytes[bytes.size() - 2] ^= 1;
  test::put(folder_ / kSingleFile, bytes);
  EXPECT_NE(open().identity(), one);
  make(llama_json(), "BF16");
  EXPECT_NE(open().identity(), one);
}

// The highest resident memory of the process since the last reset, in bytes.
std::int64_t highest_resident() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  return 0;
}
void reset_highest_resident() { std::ofstream("/proc/self/clear_refs") << 5; }

// One of four ranks at ZeRO stage 3: what it holds at most while it reads, beside what it held before. The file has types of
// two and of four bytes; what was read of it must not stay in memory either.
TEST_F(PretrainedTest, LoadingTakesTheShareOfARankAndOneTensor) {
  json config = llama_json();
  config.update({{"hidden_size", 512},
                 {"intermediate_size", 1408},
                 {"num_hidden_layers", 4},
                 {"num_attention_heads", 8},
                 {"num_key_value_heads", 2},
                 {"vocab_size", 4000}});
  for (const char* type : {"BF16", "F32"}) {
    make(config, type, /*zeros=*/true);
    std::vector<dist::ParameterSpec> specs;
    std::int64_t elements = 0, largest = 0;
    for (const core::Parameter* p : model_->parameters()) {
      specs.push_back({p->name, p->shape});
      elements += p->size();
      largest = std::max(largest, p->size());
    }
    constexpr int kRanks = 4;
    const dist::ShardPlan plan(specs, kRanks, 1 << 20);
    const auto device = test::make_cpu_test_device(1);
    std::int64_t asked = 0;
    ::malloc_trim(0);
    reset_highest_resident();
    const std::int64_t before = highest_resident();
    {
      const dist::ShardedParameters sharded(*device, model_->parameters(), plan, 1, 3, core::Dtype::float32);
      const PretrainedWeights weights = open();
      for (int p = 0; p < core::to_int(specs.size()); ++p)
        sharded.fill(p, [&](const core::Parameter& parameter, std::int64_t begin, std::int64_t count, float* to) {
          asked += count;
          weights.read(parameter, begin, count, to);
        });
    }
    const std::int64_t share = 4 * elements / kRanks, peak = highest_resident() - before;
    RecordProperty("share", std::to_string(share));
    RecordProperty("peak", std::to_string(peak));
    EXPECT_LE(4 * asked, share + 4 * std::ssize(specs));
    EXPECT_GE(4 * asked, share / 2);
    EXPECT_LE(peak, 6 * share / 5 + 4 * largest) << type;
    EXPECT_GE(peak, share / 2) << "the measurement sees nothing";
  }
}

}  // namespace
}  // namespace muonp::models
