// Pitfall 41: checkpoints that are not as they were written. Each is refused with an Error that names the
// file; none crashes the program or makes it ask for the memory that a damaged number speaks of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/rng.h"
#include "core/files/checkpoint_manifest.h"
#include "core/files/checkpoint_store.h"
#include "tests/core/files/altered_checkpoint.h"
#include "tests/core/files/largest_request.h"
#include "tests/support/temporary_folder.h"

namespace muonp::test {
namespace {

using namespace muonp::core;
using testing::AnyOf;
using testing::HasSubstr;

constexpr std::size_t kMostMemory = std::size_t{8} << 20;  // the longest altered file has 2 MB
const std::string kRank0 = "state-00000.safetensors", kRank1 = "state-00001.safetensors", kManifest = "manifest.json";

class AlteredCheckpoint : public testing::Test {
 protected:
  AlteredCheckpoint()
      : earlier_(save_small_checkpoint(folder_.path(), 10)), path_(save_small_checkpoint(folder_.path(), 20)) {
    read_checkpoint(path_);
    for (const std::string& name : {kRank0, kRank1, kManifest}) whole_[name] = get(path_ + "/" + name);
  }

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& whole(const std::string& name) const { return whole_.at(name); }

  // What opening the checkpoint says once `alter` was there; it is made whole again afterwards.
  std::string refusal(const std::function<void()>& alter) {
    alter();
    largest_request = 0;
    const std::string message = message_of<Error>([&] { read_checkpoint(path_); });
    EXPECT_LT(largest_request.load(), kMostMemory) << message;
    for (const auto& [name, content] : whole_) put(file(name), content);
    return message;
  }

  // The content of one file replaced.
  void expect_refused(const std::string& name, const std::string& content, const std::string& what) {
    const std::string message = refusal([&] { put(file(name), content); });
    EXPECT_THAT(message, HasSubstr(file(name))) << what;
    EXPECT_FALSE(message.starts_with("other")) << what << ": " << message;
    ++refused_;
  }

  // The same behind checksums that fit.
  void expect_refused_signed(const std::string& content, const std::string& what) {
    const std::string message = refusal([&] {
      put(file(kRank1), content);
      sign_checkpoint(path_);
    });
    EXPECT_THAT(message, AnyOf(HasSubstr(file(kRank1)), HasSubstr(path_))) << what;
    EXPECT_FALSE(message.starts_with("other")) << what << ": " << message;
    ++refused_;
  }

  const TemporaryFolder folder_;
  const std::string earlier_, path_;
  std::map<std::string, std::string> whole_;
  int refused_ = 0;
};

std::string with_length(std::string content, std::uint64_t length) {
  std::memcpy(content.data(), &length, 8);
  return content;
}

std::string piece_file(const std::string& header, std::size_t data_bytes) {
  return with_length(std::string(8, '\0'), header.size()) + header + std::string(data_bytes, 'd');
}

constexpr const char* kState = R"({"a":1})";

// A manifest with one member replaced by `text` and a checksum that fits.
std::string manifest_with(const std::string& key, const std::string& text) {
  const std::map<std::string, std::string> members{
      {"files", "[]"}, {"format", "\"muonp checkpoint\""}, {"state", kState}, {"step", "20"}, {"version", "1"}};
  std::string body;
  for (const auto& [name, value] : members) body += fmt::format("\"{}\":{},", name, name == key ? text : value);
  body.pop_back();
  const std::string compact = "{" + body + "}";
  const std::uint64_t checksum = hash_bytes(compact.data(), static_cast<std::int64_t>(compact.size()));
  return fmt::format("{{{},\"manifest_xxh3\":\"{:016x}\"}}", body, checksum);
}

TEST_F(AlteredCheckpoint, Pitfall41_FlippedBitsAreRefused) {
  for (const std::string& name : {kRank0, kRank1, kManifest})
    for (std::uint64_t i = 0; i < 60; ++i) {
      std::string content = whole(name);
      const std::uint64_t at = random_below(11, refused_, 0, content.size()), bit = random_below(11, refused_, 1, 8);
      content[at] = static_cast<char>(content[at] ^ (1 << bit));
      expect_refused(name, content, fmt::format("{} byte {} bit {}", name, at, bit));
    }
  EXPECT_EQ(refused_, 180);
}

TEST_F(AlteredCheckpoint, Pitfall41_FilesCutShortOrLongerAreRefused) {
  for (const std::string& name : {kRank0, kRank1, kManifest}) {
    const std::size_t size = whole(name).size() - (name == kManifest ? 1 : 0);  // its last line break is not missed
    for (std::size_t part = 0; part < 20; ++part)
      expect_refused(name, whole(name).substr(0, size * part / 20), fmt::format("{} cut to {}/20", name, part));
    expect_refused(name, whole(name).substr(0, size - 1), name + " without its last byte");
    expect_refused(name, whole(name) + "x", name + " with a byte more");
    EXPECT_THAT(refusal([&] { std::filesystem::remove(file(name)); }), HasSubstr(path_));
    EXPECT_THAT(refusal([&] {
                  std::filesystem::remove(file(name));
                  std::filesystem::create_directory(file(name));
                }),
                HasSubstr(path_));
    std::filesystem::remove(file(name));
    put(file(name), whole(name));
  }
}

TEST_F(AlteredCheckpoint, Pitfall41_FilesOfAnotherRankOrStepAreRefused) {
  EXPECT_THAT(refusal([&] {
                put(file(kRank0), whole(kRank1));
                put(file(kRank1), whole(kRank0));
              }),
              AnyOf(HasSubstr(file(kRank0)), HasSubstr(file(kRank1))));
  for (const std::string& name : {kRank0, kRank1, kManifest})
    expect_refused(name, get(earlier_ + "/" + name), name + " of step 10");
  EXPECT_THAT(refusal([&] {
                for (const auto& [name, content] : whole_) put(file(name), get(earlier_ + "/" + name));
              }),
              HasSubstr("manifest.json is of step 10, its folder of step 20"));
  // A rank's file in the other's place behind checksums that fit: every element of it would be there twice.
  expect_refused_signed(whole(kRank0), "rank 0's file twice");
}

TEST_F(AlteredCheckpoint, Pitfall41_ImpossibleHeaderLengthsAreRefused) {
  const auto size = static_cast<std::uint64_t>(whole(kRank1).size());
  const std::uint64_t largest = ~std::uint64_t{0};
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{1}, size - 8, size - 7, size, std::uint64_t{1} << 31, std::uint64_t{1} << 32,
        std::uint64_t{1} << 40, std::uint64_t{1} << 62, std::uint64_t{1} << 63, largest - 7, largest}) {
    expect_refused(kRank1, with_length(whole(kRank1), length), fmt::format("header length {}", length));
    expect_refused_signed(with_length(whole(kRank1), length), fmt::format("header length {}", length));
  }
}

TEST_F(AlteredCheckpoint, Pitfall41_ManifestsOfWrongTypesAndSizesAreRefused) {
  const std::string deep = std::string(500'000, '[') + std::string(500'000, ']');
  const std::string entry = R"({"name":"state-00000.safetensors","bytes":8,"xxh3":"0000000000000000"})";
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad{
      {"step", {"-1", "1.5", "1e300", "20.0", "18446744073709551615", "\"20\"", "null", "[20]", "{}", deep, "21"}},
      {"version", {"0", "2", "\"1\"", "null", "1e308", "[]", deep}},
      {"format", {"1", "null", "\"\"", "[\"muonp checkpoint\"]", deep}},
      {"state", {deep, R"({"a":1,"a":2})", "", "nul"}},
      {"files",
       {"7",
        "\"x\"",
        "{}",
        "null",
        "[1]",
        "[[]]",
        "[{}]",
        deep,
        "[" + entry + "," + entry + "]",
        R"([{"name":"state-00000.safetensors","bytes":-8,"xxh3":"0000000000000000"}])",
        R"([{"name":"state-00000.safetensors","bytes":8.5,"xxh3":"0000000000000000"}])",
        R"([{"name":"state-00000.safetensors","bytes":1e18,"xxh3":"0000000000000000"}])",
        R"([{"name":"state-00000.safetensors","bytes":9223372036854775807,"xxh3":"0000000000000000"}])",
        R"([{"name":"state-00000.safetensors","bytes":8,"xxh3":"00000000000000000000000000000001"}])",
        R"([{"name":"state-00000.safetensors","bytes":8,"xxh3":"-000000000000001"}])",
        R"([{"name":"state-00000.safetensors","bytes":8,"xxh3":"zz"}])",
        R"([{"name":"state-00000.safetensors","bytes":8,"xxh3":1}])",
        R"([{"name":"../../etc/passwd","bytes":8,"xxh3":"0000000000000000"}])",
        R"([{"name":"state-00000.safetensors\u0000x","bytes":8,"xxh3":"0000000000000000"}])",
        R"([{"name":"","bytes":8,"xxh3":"0000000000000000"}])",
        R"([{"name":"a"}])"}}};
  for (const auto& [key, texts] : bad)
    for (const std::string& text : texts)
      expect_refused(kManifest, manifest_with(key, text), key + ": " + text.substr(0, 60));
  for (const std::string& text : {std::string(), std::string("null"), std::string("[]"), deep, std::string(2000, '{'),
                                  std::string("\xff\xfe"), std::string(100, '\0')})
    expect_refused(kManifest, text, text.substr(0, 20));
  const std::string harmless = manifest_with("", "");
  EXPECT_EQ(refusal([&] { put(file(kManifest), harmless); }), "") << "the cases above are refused for another reason";
}

TEST_F(AlteredCheckpoint, Pitfall41_PieceFilesWithImpossibleHeadersAreRefused) {
  const std::string deep = std::string(500'000, '[') + std::string(500'000, ']');
  const auto tensor = [](const std::string& name, const std::string& shape, const std::string& offsets) {
    return fmt::format(R"("{}":{{"dtype":"F32","shape":{},"data_offsets":{}}})", name, shape, offsets);
  };
  const auto extent = [](const std::string& name, const std::string& begin, const std::string& end,
                         const std::string& shape) {
    return fmt::format(R"("__metadata__":{{"{}":"{{\"begin\":{},\"end\":{},\"shape\":{}}}"}})", name, begin, end, shape);
  };
  const auto file_of = [](const std::string& a, const std::string& b) { return piece_file("{" + a + "," + b + "}", 8); };
  EXPECT_EQ(refusal([&] {
              put(file(kRank1), file_of(tensor("c@0", "[2]", "[0,8]"), extent("c@0", "0", "2", "[2]")));
              put(file(kRank0), piece_file("{}", 0));
              sign_checkpoint(path_);
            }),
            "")
      << "the cases below are refused for another reason";
  const std::vector<std::string> tensors{tensor("c@0", "[1]", "[0,8]"),
                                         tensor("c@0", "[-2]", "[0,8]"),
                                         tensor("c@0", "[2]", "[0,16]"),
                                         tensor("c@0", "[2]", "[8,0]"),
                                         tensor("c@0", "[2]", "[-8,0]"),
                                         tensor("c@0", deep, "[0,8]"),
                                         tensor("c@0", "[2]", deep),
                                         tensor("c@0", "[2.0]", "[0,8]"),
                                         tensor("c@0", "[2]", "[0,8e0]"),
                                         tensor("c@0", "[4611686018427387904,4]", "[0,8]"),
                                         tensor("c@0", "[9223372036854775807]", "[0,8]"),
                                         tensor("c@0", "[18446744073709551618]", "[0,8]"),
                                         tensor("c@0", "[2]", "[0,8]") + "," + tensor("c@0", "[2]", "[0,8]"),
                                         tensor("c@0", "[2]", "[0,4]"),
                                         tensor("c@0", "[1]", "[0,4]") + "," + tensor("d@0", "[2]", "[0,8]"),
                                         "\"c@0\":" + deep};
  for (const std::string& t : tensors) expect_refused_signed(file_of(t, extent("c@0", "0", "2", "[2]")), t.substr(0, 80));
  const std::vector<std::string> extents{extent("d@0", "0", "2", "[2]"),
                                         extent("c@0", "0", "3", "[3]"),
                                         extent("c@0", "1", "3", "[3]"),
                                         extent("c@0", "-1", "1", "[2]"),
                                         extent("c@0", "0", "2", "[1]"),
                                         extent("c@0", "0", "2", "[]"),
                                         extent("c@0", "0", "2", "7"),
                                         extent("c@0", "[]", "2", "[2]"),
                                         extent("c@0", "0", "2", "[-1,-2]"),
                                         extent("c@0", "0", "2", "[4294967296,4294967296]"),
                                         extent("c@0", "0", "2", "[4611686018427387904]"),
                                         extent("c@0", "0", "2", deep),
                                         extent("c@0", "0", "2.5", "[2]"),
                                         extent("c@0", "0", "1e300", "[2]"),
                                         "\"__metadata__\":{}",
                                         "\"__metadata__\":[]",
                                         "\"__metadata__\":{\"c@0\":{}}",
                                         "\"__metadata__\":{\"c@0\":\"\"}",
                                         "\"__metadata__\":" + deep,
                                         "\"x\":1",
                                         extent("c@0", "0", "2", "[9]")};  // the rest of it is in no file
  for (const std::string& e : extents) expect_refused_signed(file_of(tensor("c@0", "[2]", "[0,8]"), e), e.substr(0, 80));
}

TEST_F(AlteredCheckpoint, Pitfall41_AnythingBehindFittingChecksumsIsReadOrRefused) {
  // Harmless changes (a name, a value) cannot be told from what was meant; a crash or an InternalError can.
  for (std::uint64_t i = 0; i < 400; ++i) {
    std::string content = whole(kRank1);
    for (std::uint64_t k = 0; k <= i % 4; ++k)
      content[random_below(5, i, 2 * k, content.size())] = static_cast<char>(random_below(5, i, 2 * k + 1, 256));
    const std::string message = refusal([&] {
      put(file(kRank1), content);
      sign_checkpoint(path_);
    });
    EXPECT_FALSE(message.starts_with("other")) << message;
  }
}

}  // namespace
}  // namespace muonp::test
