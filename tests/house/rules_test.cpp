// Rules for sources that no compiler holds.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <regex>

#include "tests/house/source_tree.h"

namespace muonp::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A function of a back end has one interface; another source file stands in where the back end is not built (no_cuda.cpp,
// no_nccl.cpp). These may ask what is being compiled.
const char* const kMayAsk[] = {"core/device/cuda/",
                               "dist/nccl/",
                               "core/device/no_cuda.cpp",
                               "tests/cuda_host/",
                               "core/base/dtype.h",
                               "core/base/math.h",
                               "core/device/for_each.h",  // kernels are written once, for two compilers
                               "tests/dist/nccl/nccl_rank_test.cpp",
                               "tests/support/test_device.h",            // a real GPU or the stand-in
                               "tests/launch/train/zero_training.cpp"};  // the stand-in has as many GPUs as it is told

std::vector<std::string> back_end_conditions(const std::vector<SourceFile>& files) {
  static const std::regex condition(R"re(^\s*#\s*(if|el).*(CUDA|NCCL|CUDNN|CUBLAS|DEVICE_CODE))re");
  std::vector<std::string> found;
  for (const SourceFile& file : files) {
    if (std::ranges::any_of(kMayAsk, [&](const char* allowed) { return file.path.starts_with(allowed); })) continue;
    const std::vector<std::string> lines = lines_of(file.text);
    for (std::size_t i = 0; i < lines.size(); ++i)
      if (std::regex_search(lines[i], condition)) found.push_back(fmt::format("{}:{}: {}", file.path, i + 1, lines[i]));
  }
  return found;
}

std::vector<std::string> long_files(const std::vector<SourceFile>& files) {
  constexpr std::size_t kMost = 450;
  std::vector<std::string> found;
  for (const SourceFile& file : files)
    if (const std::size_t lines = lines_of(file.text).size(); lines > kMost)
      found.push_back(fmt::format("{} has {} lines; at most {} are wanted", file.path, lines, kMost));
  return found;
}

TEST(Rules, OnlyFilesOfABackEndAskWhetherItIsBuilt) {
  const std::vector<std::string> all =
      back_end_conditions(sources_of({"core", "dist", "optim", "models", "launch", "tests"}));
  EXPECT_THAT(all, IsEmpty()) << fmt::format("{}", fmt::join(all, "\n"));
}

// What a rule or a stage means is asked of the rule, and of dist/plan/zero_stage.h.
std::vector<std::string> matches(const std::vector<SourceFile>& files, const std::regex& what) {
  std::vector<std::string> found;
  for (const SourceFile& file : files) {
    const std::vector<std::string> lines = lines_of(file.text);
    for (std::size_t i = 0; i < lines.size(); ++i)
      if (std::regex_search(lines[i], what)) found.push_back(fmt::format("{}:{}: {}", file.path, i + 1, lines[i]));
  }
  return found;
}
const std::regex kRuleByName(R"re([=!]= *"(muonp|adamw|sgd)"|"(muonp|adamw|sgd)" *[=!]=)re");
const std::regex kStageByNumber(
    R"re((zero|stage|stage_|stage\(\)|zero\(\)\.number|zero\.number) *(==|!=|<=|>=|<|>) *[0-3]\b)re");

TEST(Rules, NobodyComparesARulesName) {
  const std::vector<std::string> all = matches(sources_of(kProgram), kRuleByName);
  EXPECT_THAT(all, IsEmpty()) << fmt::format("{}", fmt::join(all, "\n"));
}

TEST(Rules, OneFileComparesTheStage) {
  const std::vector<std::string> all = matches(sources_of(kProgram), kStageByNumber);
  EXPECT_LE(all.size(), 8u) << fmt::format("{}", fmt::join(all, "\n"));
  for (const std::string& line : all) EXPECT_TRUE(line.starts_with("dist/plan/zero_stage.h")) << line;
}

TEST(Rules, FilesAreShort) {
  const std::vector<std::string> all = long_files(sources_of(kProgram));
  EXPECT_THAT(all, IsEmpty()) << fmt::format("{}", fmt::join(all, "\n"));
}

TEST(Rules, WhatBreaksThemIsNamed) {
  const std::string condition = "int a;\n#ifdef MUONP_WITH_CUDA\n#endif\n";
  EXPECT_THAT(back_end_conditions({{"core/device/symmetric.cpp", condition}, {"core/device/cuda/queue.cpp", condition}}),
              ElementsAre("core/device/symmetric.cpp:2: #ifdef MUONP_WITH_CUDA"));
  EXPECT_THAT(matches({{"a.cpp", "if (rule == \"sgd\")\n"}}, kRuleByName), ElementsAre("a.cpp:1: if (rule == \"sgd\")"));
  EXPECT_THAT(matches({{"a.cpp", "x\nif (options.zero >= 2)"}}, kStageByNumber),
              ElementsAre("a.cpp:2: if (options.zero >= 2)"));
  EXPECT_THAT(long_files({{"core/a.h", std::string(451, '\n')}, {"core/b.h", std::string(450, '\n')}}),
              ElementsAre("core/a.h has 451 lines; at most 450 are wanted"));
}

}  // namespace
}  // namespace muonp::test
