#include "core/files/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::HasSubstr;

namespace {

std::string with_header(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, 'd');
}

std::string refusal(const TemporaryFolder& folder, const std::string& content) {
  put(folder / "x", content);
  return message_of<Error>([&] { SafetensorsReader reader(folder / "x"); });
}

// A valid file of a few tensors.
std::string sample_file(const TemporaryFolder& folder) {
  const std::vector<TensorSpec> specs{{"a", StoredType::f32, {2, 3}},
                                      {"b", StoredType::bf16, {5}},
                                      {"s", StoredType::i64, {}},
                                      {"none", StoredType::f16, {0, 4}}};
  AtomicFile file(folder / "sample");
  SafetensorsWriter writer(file, specs, {{"made by", "a \"test\""}, {"empty", ""}});
  for (char c = 0; c < 42; c = static_cast<char>(c + 7)) writer.write(std::string(7, c).data(), 7);
  writer.finish();
  file.commit();
  return get(folder / "sample");
}

}  // namespace

TEST(Safetensors, RoundTrips) {
  const TemporaryFolder folder;
  const std::string content = sample_file(folder);
  const SafetensorsReader reader(folder / "sample");
  ASSERT_EQ(reader.entries().size(), 4u);
  EXPECT_EQ(reader.metadata().at("made by"), "a \"test\"");
  EXPECT_EQ(reader.find("a")->spec.shape, (Shape{2, 3}));
  EXPECT_EQ(reader.find("b")->spec.type, StoredType::bf16);
  EXPECT_EQ(reader.find("s")->spec.bytes(), 8);
  EXPECT_EQ(reader.find("none")->spec.bytes(), 0);
  EXPECT_EQ(reader.find("zzz"), nullptr);
  std::string data;
  for (const char* name : {"a", "b", "s"})
    data.append(static_cast<const char*>(reader.find(name)->data),
                static_cast<std::size_t>(reader.find(name)->spec.bytes()));
  EXPECT_EQ(data, content.substr(content.size() - 42));
}

TEST(Safetensors, LayoutIsTheFormatsOwn) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "x");
  SafetensorsWriter writer(file, {{"w", StoredType::f32, {1, 2}}});
  const float values[2] = {1.0f, -2.0f};
  writer.write(values, 8);
  writer.finish();
  const FileSummary summary = file.commit();
  std::string header = R"({"w":{"data_offsets":[0,8],"dtype":"F32","shape":[1,2]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(get(folder / "x"), with_header(header, 0) + std::string(reinterpret_cast<const char*>(values), 8));
  EXPECT_EQ(summary.bytes, SafetensorsWriter::file_bytes({{"w", StoredType::f32, {1, 2}}}));
}

TEST(Safetensors, WriterHoldsItsCallerToTheAnnouncement) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "x");
  SafetensorsWriter writer(file, {{"w", StoredType::f32, {2}}});
  EXPECT_THROW(writer.write("123456789", 9), InternalError);
  writer.write("1234567", 7);
  EXPECT_THROW(writer.finish(), InternalError);
  AtomicFile other(folder / "y");
  EXPECT_THROW(SafetensorsWriter(other, {{"w", StoredType::f32, {2}}, {"w", StoredType::f32, {2}}}), InternalError);
}

TEST(Safetensors, EveryDefectIsNamed) {
  const TemporaryFolder folder;
  const auto header = [&](const std::string& json, std::size_t bytes = 8) {
    return refusal(folder, with_header(json, bytes));
  };
  const std::string good = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(header(good), "");
  EXPECT_EQ(header(good + "   "), "");
  EXPECT_THAT(header(good, 9), HasSubstr("its tensors end at data byte 8 of 9"));
  EXPECT_THAT(header(good, 7), HasSubstr("'w' lies at [0, 8) of 7 data bytes"));
  EXPECT_THAT(header("[]"), HasSubstr("no JSON object"));
  EXPECT_THAT(header("{\"w\":"), HasSubstr("no JSON"));
  EXPECT_THAT(header("{\"\xff\":1}"), HasSubstr("no JSON"));
  EXPECT_THAT(header(R"({"w":7})"), HasSubstr("'w' has no dtype"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","data_offsets":[0,8]}})"), HasSubstr("'w' has no shape"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})"), HasSubstr("unknown dtype \"F31\""));
  EXPECT_THAT(header(R"({"w":{"dtype":4,"shape":[2],"data_offsets":[0,8]}})"), HasSubstr("unknown dtype 4"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})"),
              HasSubstr("'w' has 8 bytes, but F32 [3] needs 12"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"), HasSubstr("dimension -2"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})"), HasSubstr("dimension 2.5"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})"), HasSubstr("no list"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})"), HasSubstr("2^63"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})"), HasSubstr("no count"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"), HasSubstr("lies at [8, 0)"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0]}})"), HasSubstr("no pair"));
  EXPECT_THAT(header(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})", 16),
              HasSubstr("begins at data byte 8, but the tensors before it end at 0"));
  EXPECT_THAT(
      header(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          12),
      HasSubstr("'b' begins at data byte 4, but the tensors before it end at 8"));
  EXPECT_THAT(
      header(
          R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
      HasSubstr("JSON with the name \"w\" twice"));
  EXPECT_THAT(header(R"({"__metadata__":{"a":1}})", 0), HasSubstr("'a' is no string"));
  EXPECT_THAT(header(R"({"__metadata__":[]})", 0), HasSubstr("__metadata__ is no JSON object"));
  // The library prints, as in these messages, level by level on the stack.
  const std::string nested = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  EXPECT_THAT(header(nested), HasSubstr("nested deeper than 64 levels"));
  EXPECT_THAT(header(R"({"w":{"shape":[2],"data_offsets":[0,8],"dtype":)" + nested + "}}"),
              HasSubstr("nested deeper than 64 levels"));
  EXPECT_THAT(refusal(folder, "1234567"), HasSubstr("it has 7 bytes"));
  EXPECT_THAT(refusal(folder, ""), HasSubstr("x is empty"));
  EXPECT_THAT(refusal(folder, std::string(8, '\xff') + "{}"), HasSubstr("its header length is 18446744073709551615"));
  EXPECT_EQ(refusal(folder, with_header("{}", 0)), "");
  EXPECT_THAT(header(good, 9), HasSubstr(folder / "x"));
}

TEST(Safetensors, HeaderLengthsBeyondTheFileAreRefusedBeforeReading) {
  const TemporaryFolder folder;
  std::string content = with_header("{}", 4086);  // a page, so that the byte after the file is no memory
  for (int shift = 12; shift < 64; ++shift) {
    const std::uint64_t length = std::uint64_t{1} << shift;
    std::memcpy(content.data(), &length, 8);
    std::fill(content.begin() + 10, content.end(), ' ');
    EXPECT_THAT(refusal(folder, content), HasSubstr(fmt::format("its header length is {}, the file has 4096", length)));
  }
}

TEST(Safetensors, AlteredFilesNeverCrash) {
  const TemporaryFolder folder;
  const std::string content = sample_file(folder);
  const std::size_t header_end = content.size() - 42;
  int refused = 0, truncated_accepted = 0;
  const auto attempt = [&](const std::string& altered) {
    put(folder / "x", altered);
    try {
      const SafetensorsReader reader(folder / "x");
      std::uint64_t sum = 0;  // whatever is accepted can be read to its last byte
      for (const auto& e : reader.entries())
        for (std::int64_t i = 0; i < e.spec.bytes(); ++i) sum += static_cast<const unsigned char*>(e.data)[i];
      EXPECT_GE(sum, 0u);
      return true;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(folder / "x"));
      ++refused;
      return false;
    }
  };
  for (std::size_t length = 0; length < content.size(); ++length)
    truncated_accepted += attempt(content.substr(0, length)) ? 1 : 0;
  EXPECT_EQ(truncated_accepted, 0);
  for (std::size_t at = 0; at < header_end; ++at)
    for (const unsigned bit : {0u, 1u, 4u, 7u}) {
      std::string altered = content;
      altered[at] = static_cast<char>(altered[at] ^ (1 << bit));
      attempt(altered);
    }
  for (std::uint64_t i = 0; i < 500; ++i) {  // several bytes at once
    std::string altered = content;
    for (std::uint64_t k = 0; k < 1 + i % 6; ++k)
      altered[random_below(1, i, 2 * k, header_end)] = static_cast<char>(random_below(1, i, 2 * k + 1, 256));
    attempt(altered);
  }
  for (int shift = 0; shift < 64; ++shift) {
    std::string altered = content;
    const std::uint64_t length = std::uint64_t{1} << shift;
    std::memcpy(altered.data(), &length, 8);
    EXPECT_FALSE(attempt(altered));
  }
  EXPECT_GT(refused, 1000);
}
