#include "models/pretrained/folder_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "models/pretrained/folder_files.h"
#include "tests/models/pretrained/hf_folder.h"

namespace muonp::models {
namespace {

using test::json;
using test::safetensors_bytes;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class FolderTensorsTest : public testing::Test {
 protected:
  void put(const std::string& file, const std::string& content) const { test::put(folder_ / file, content); }
  void put_index(const json& weight_map) const { put(kIndexFile, json{{"weight_map", weight_map}}.dump()); }
  // Two shards, "a" and "b" in the first, "c" in the second.
  void put_shards() const {
    put("model-1.safetensors", safetensors_bytes({{"a", "F32", {2}}, {"b", "BF16", {3}}}));
    put("model-2.safetensors", safetensors_bytes({{"c", "F16", {4}}}));
  }
  json map() const { return {{"a", "model-1.safetensors"}, {"b", "model-1.safetensors"}, {"c", "model-2.safetensors"}}; }
  std::string refusal() const {
    return test::message_of<core::Error>([&] { FolderTensors tensors(folder_.path()); });
  }
  test::TemporaryFolder folder_;
};

TEST_F(FolderTensorsTest, OneFileOrShards) {
  put(kSingleFile, safetensors_bytes({{"a", "F32", {2, 3}}}));
  const FolderTensors single(folder_.path());
  ASSERT_NE(single.find("a"), nullptr);
  EXPECT_EQ(single.find("a")->entry->spec.shape, (core::Shape{2, 3}));
  EXPECT_EQ(single.find("b"), nullptr);
  std::filesystem::remove(folder_ / kSingleFile);
  put_shards();
  put_index(map());
  const FolderTensors sharded(folder_.path());
  EXPECT_EQ(sharded.all().size(), 3u);
  EXPECT_THAT(sharded.find("c")->file->path(), HasSubstr("model-2.safetensors"));
}

TEST_F(FolderTensorsTest, NoWeights) {
  EXPECT_THAT(test::message_of<core::Error>([] { FolderTensors("/no/such/folder"); }), HasSubstr("no such folder"));
  EXPECT_THAT(refusal(), AllOf(HasSubstr(kSingleFile), HasSubstr(kIndexFile)));
  put("pytorch_model.bin", "x");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("save_pretrained")));
}

TEST_F(FolderTensorsTest, AnIndexThatCannotBe) {
  put_shards();
  const auto refused = [&](const std::string& text) {
    put(kIndexFile, text);
    return refusal();
  };
  EXPECT_THAT(refused("{"), HasSubstr(kIndexFile));
  EXPECT_THAT(refused(std::string(1000, '[')), HasSubstr("deeper"));
  EXPECT_THAT(refused("[]"), HasSubstr("weight_map"));
  EXPECT_THAT(refused(R"({"weight_map": [1]})"), HasSubstr("weight_map"));
  EXPECT_THAT(refused(R"({"weight_map": {"a": 1}})"), AllOf(HasSubstr("'a'"), HasSubstr("no name of a file")));
  for (const char* path : {"../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ""})
    EXPECT_THAT(refused(json{{"weight_map", {{"a", path}}}}.dump()), HasSubstr("no name of a file in this folder")) << path;
  EXPECT_THAT(refused(R"({"weight_map": {"a": "model-1.safetensors", "a": "model-2.safetensors"}})"), HasSubstr("twice"));
}

TEST_F(FolderTensorsTest, IndexAndShardsThatDisagree) {
  put_shards();
  json missing = map();
  missing["d"] = "model-3.safetensors";
  put_index(missing);
  EXPECT_THAT(refusal(), HasSubstr("the shard model-3.safetensors, which it names, is missing"));
  json nowhere = map();
  nowhere["d"] = "model-2.safetensors";
  put_index(nowhere);
  EXPECT_THAT(refusal(), HasSubstr("the tensor 'd' is not in model-2.safetensors"));
  json elsewhere = map();
  elsewhere["a"] = "model-2.safetensors";
  put_index(elsewhere);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("'a'"), HasSubstr("model-1.safetensors"), HasSubstr("model-2.safetensors")));
  json unnamed = map();
  unnamed.erase("b");
  put_index(unnamed);
  EXPECT_THAT(refusal(), HasSubstr("'b' is in model-1.safetensors, by the index in no shard"));
  put("model-2.safetensors", safetensors_bytes({{"a", "F32", {2}}, {"c", "F16", {4}}}));
  put_index(map());
  EXPECT_THAT(refusal(), HasSubstr("'a' is in two shards"));
}

TEST_F(FolderTensorsTest, FilesThatAreNoSafetensors) {
  const std::string good = safetensors_bytes({{"a", "F32", {2}}});
  const auto refused = [&](const std::string& content) {
    put(kSingleFile, content);
    return refusal();
  };
  EXPECT_THAT(refused(good.substr(0, 5)), HasSubstr("model.safetensors is not a valid safetensors file"));
  EXPECT_THAT(refused(good.substr(0, good.size() - 1)), HasSubstr("model.safetensors is not a valid safetensors file"));
  for (const std::uint64_t length : {std::uint64_t{1} << 63, ~std::uint64_t{0}, std::uint64_t{good.size()}})
    EXPECT_THAT(refused(test::bytes_of(length) + good.substr(8)), HasSubstr(std::to_string(length)));
  const auto with_header = [](const std::string& header, std::size_t data) {
    return test::bytes_of(static_cast<std::uint64_t>(header.size())) + header + std::string(data, '\0');
  };
  EXPECT_THAT(refused(with_header(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                                      "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}})",
                                  12)),
              HasSubstr("'b'"));  // overlapping
  EXPECT_THAT(
      refused(with_header(R"({"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 8]}})", 8)),
      HasSubstr("'a'"));
  EXPECT_THAT(refused(""), HasSubstr("model.safetensors"));
}

TEST(FolderFiles, ShardsBySize) {
  const std::vector<core::TensorSpec> tensors = {{"a", core::StoredType::f32, {10}},
                                                 {"b", core::StoredType::bf16, {10}},
                                                 {"c", core::StoredType::f32, {100}},
                                                 {"d", core::StoredType::f32, {1}}};
  EXPECT_EQ(plan_shards(tensors, 464).size(), 1u);
  EXPECT_EQ(plan_shards(tensors, 464)[0].file, "model.safetensors");
  const std::vector<Shard> shards = plan_shards(tensors, 60);
  ASSERT_EQ(shards.size(), 3u);
  EXPECT_EQ(shards[0].tensors.size(), 2u);
  EXPECT_EQ(shards[1].file, "model-00002-of-00003.safetensors");
  EXPECT_EQ(shards[1].tensors[0].name, "c");  // larger than a shard
  const json index = json::parse(write_index(shards));
  EXPECT_EQ(index.at("metadata").at("total_size"), 464);
  EXPECT_EQ(index.at("weight_map").at("d"), "model-00003-of-00003.safetensors");
}

TEST(FolderFiles, WhatGoesAlong) {
  const test::TemporaryFolder folder;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "chat_template.jinja", "generation_config.json",
                           "LICENSE.txt", "config.json", "model.safetensors", "README.md", "pytorch_model.bin"})
    test::put(folder / name, "x");
  EXPECT_THAT(companion_files(folder.path()), ElementsAre("LICENSE.txt", "chat_template.jinja", "generation_config.json",
                                                          "tokenizer.json", "tokenizer.model"));
}

}  // namespace
}  // namespace muonp::models
