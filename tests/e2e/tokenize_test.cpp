// `muonp tokenize` and training with the tokenizer of a Hugging Face folder.
#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/data/tokenizer/tokenizer.h"
#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

namespace fs = std::filesystem;

class Tokenize : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    fs::copy(MUONP_TOKENIZER_FIXTURES "/llama3", path("folder"));
    std::string text;
    for (int i = 0; i < 20'000; ++i) text += fmt::format("{} lines of {}text, <|eot_id|>\n", i, i % 7 ? "" : "\n  ");
    write("text.txt", text);
  }

  // Of a .npy file of one row of int32.
  std::vector<std::int32_t> ids(const std::string& name) const {
    const std::string file = read(name);
    EXPECT_EQ(file.substr(0, 8), std::string("\x93NUMPY\x01\0", 8));
    std::vector<std::int32_t> all((file.size() - 128) / 4);
    std::memcpy(all.data(), file.data() + 128, 4 * all.size());
    EXPECT_NE(file.find(fmt::format("'descr': '<i4', 'fortran_order': False, 'shape': ({},)", all.size())),
              std::string::npos);
    return all;
  }
};

TEST_F(Tokenize, WritesTheIdsOfAFolder) {
  const Outcome outcome = muonp("tokenize --tokenizer folder --in text.txt --ids out/ids.npy");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE((outcome.out + outcome.err).find("bytes that are no UTF-8 become U+FFFD"), std::string::npos);
  const core::TokenizerHandle tokenizer = core::open_tokenizer(path("folder"));
  const std::vector<std::int32_t> plain = ids("out/ids.npy");
  EXPECT_EQ(plain, tokenizer->encode(read("text.txt")));  // encoded in parts, as if it were not
  ASSERT_EQ(muonp("tokenize --tokenizer folder/tokenizer.json --in text.txt --ids ids.npy --specials").status, 0);
  std::vector<std::int32_t> begun = ids("ids.npy");
  EXPECT_EQ(begun.front(), tokenizer->begin());
  begun.erase(begun.begin());
  EXPECT_EQ(begun, plain);
}

TEST_F(Tokenize, BadFoldersEndInOneMessage) {
  write("folder/tokenizer.json", "{");
  Outcome outcome = muonp("tokenize --tokenizer folder --in text.txt --ids ids.npy");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("folder/tokenizer.json: no JSON"), std::string::npos) << outcome.err;
  fs::remove(path("folder/tokenizer.json"));
  outcome = muonp("tokenize --tokenizer folder --in text.txt --ids ids.npy");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("there is no tokenizer in this folder"), std::string::npos) << outcome.err;
  EXPECT_FALSE(core::exists(path("ids.npy")));
}

TEST_F(Tokenize, ARunKeepsTheFolder) {
  train("kept", {"data.train=text.txt", "data.tokenizer=folder", "run.steps=1", "schedule.warmup=0"});
  fs::remove_all(path("folder"));
  EXPECT_TRUE(core::exists(path("runs/kept/tokenizer/tokenizer.json")));
  const Outcome outcome = muonp("generate runs/kept --prompt 'lines of' --tokens 4 --temperature 0");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out.substr(0, 8), "lines of");
}

}  // namespace muonp::e2e
