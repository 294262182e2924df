// Every header can be included alone. One that a compiled source includes before anything else has shown it in the build;
// the compiler reads the others here, with the flags of a source of the same floor.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <thread>

#include "tests/house/source_tree.h"
#include "tests/support/temporary_folder.h"

namespace muonp::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// From the compiler's commands of the build.
struct Build {
  std::map<std::string, std::string> command;  // by floor and by top folder: compiler and flags of one source
  std::set<std::string> sources;               // compiled
};

Build read_build() {
  Build build;
  const std::string top = MUONP_SOURCE_FOLDER "/";
  for (const auto& entry : nlohmann::json::parse(std::ifstream(MUONP_BUILD_FOLDER "/compile_commands.json"))) {
    const std::string file = entry.at("file"), command = entry.at("command"), folder = entry.at("directory");
    if (!file.starts_with(top) || command.find(" -x cu ") != std::string::npos) continue;
    const std::string path = file.substr(top.size()), floor = floor_of(path);
    build.sources.insert(path);
    if (command.find("MUONP_DEVICE_CODE") != std::string::npos) continue;
    const std::string flags = fmt::format("cd '{}' && {}", folder, command.substr(0, command.find(" -o ")));
    build.command.emplace(floor, flags);
    build.command.emplace(floor.substr(0, floor.find('/')), flags);
  }
  return build;
}

// What is included first, in quotation marks or angle brackets.
std::string first_include(const SourceFile& file) {
  static const std::regex any(R"re(^\s*#\s*include\s*["<]([^">]+)[">])re");
  std::smatch match;
  for (const std::string& line : lines_of(file.text))
    if (std::regex_search(line, match, any)) return match[1];
  return {};
}

// Whether a header needs the CUDA Toolkit's or NCCL's, itself or through others.
bool needs_toolkit(const std::map<std::string, const SourceFile*>& by_path, const std::string& path) {
  static const std::regex toolkit(R"re(#\s*include\s*<(cuda|cublas|cudnn|nccl))re");
  const auto found = by_path.find(path);
  if (found == by_path.end()) return false;
  const SourceFile& file = *found->second;
  return std::regex_search(file.text, toolkit) ||
         std::ranges::any_of(includes_of(file), [&](const std::string& next) { return needs_toolkit(by_path, next); });
}

// for_each.h and pack.h are what core/device/for_each.h includes in its midst; cudnn.h needs NVIDIA's own headers, which the
// stand-in does not replace.
const std::set<std::string> kNeverAlone = {"core/device/cuda/cudnn.h", "core/device/cuda/for_each.h",
                                           "core/device/cuda/pack.h"};

// Headers that no compiled source includes first. Those that need the toolkit are read where its stand-in is.
std::vector<std::string> unproven_headers(const std::vector<SourceFile>& files, const Build& build) {
  std::map<std::string, const SourceFile*> by_path;
  std::set<std::string> proven;
  for (const SourceFile& file : files) {
    by_path[file.path] = &file;
    if (build.sources.contains(file.path)) proven.insert(first_include(file));
  }
  const bool toolkit = std::string(MUONP_CUDA_BUILT) == "HOST";
  std::vector<std::string> headers;
  for (const SourceFile& file : files)
    if (file.is_header() && !proven.contains(file.path) && !kNeverAlone.contains(file.path) &&
        (toolkit || !needs_toolkit(by_path, file.path)))
      headers.push_back(file.path);
  return headers;
}

// What the compiler says of a file that includes the header and nothing else; empty if it compiles.
std::string complaint(const Build& build, const std::string& floor, const std::string& header) {
  const auto own = build.command.find(floor);
  const std::string& flags = own != build.command.end() ? own->second : build.command.at(floor.substr(0, floor.find('/')));
  const std::string command = fmt::format("({} -fsyntax-only -x c++ -include '{}' /dev/null) 2>&1", flags, header);
  FILE* pipe = ::popen(command.c_str(), "r");
  std::string output;
  char part[4096];
  while (const std::size_t count = std::fread(part, 1, sizeof part, pipe)) output.append(part, count);
  if (::pclose(pipe) == 0) return {};
  return fmt::format("{} does not compile alone:\n{}", header, output);
}

std::vector<std::string> complaints(const Build& build, const std::vector<std::string>& headers) {
  std::vector<std::string> all;
  std::mutex mutex;
  std::atomic<std::size_t> next = 0;
  {
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t)
      threads.emplace_back([&] {
        for (std::size_t i; (i = next++) < headers.size();)
          if (std::string text = complaint(build, floor_of(headers[i]), headers[i]); !text.empty()) {
            const std::lock_guard lock(mutex);
            all.push_back(std::move(text));
          }
      });
  }
  return all;
}

TEST(Headers, CompileAlone) {
  const Build build = read_build();
  const std::vector<std::string> headers = unproven_headers(sources_of(kProgram), build);
  EXPECT_THAT(headers, ::testing::Contains("core/base/clock.h"));  // no source of its own
  EXPECT_THAT(complaints(build, headers), IsEmpty());
}

TEST(Headers, OneThatNeedsAnotherBeforeItIsNamed) {
  const TemporaryFolder folder;
  put(folder / "needy.h", "#pragma once\nstd::string name();\n");
  put(folder / "whole.h", "#pragma once\n#include <string>\nstd::string name();\n");
  const Build build = read_build();
  EXPECT_THAT(complaint(build, "core/base", folder / "needy.h"), HasSubstr("needy.h does not compile alone"));
  EXPECT_THAT(complaint(build, "core/base", folder / "whole.h"), IsEmpty());
}

TEST(Headers, AreProvenByASourceThatIncludesThemFirst) {
  const std::vector<SourceFile> files = {{"a/b/first.h", ""},
                                         {"a/b/second.h", "#include \"a/b/first.h\"\n"},
                                         {"a/b/left_out.h", ""},
                                         {"a/b/left_out.cpp", "#include \"a/b/left_out.h\"\n"},
                                         {"a/b/first.cpp", "#include \"a/b/first.h\"\n#include \"a/b/second.h\"\n"}};
  EXPECT_THAT(unproven_headers(files, {.command = {}, .sources = {"a/b/first.cpp"}}),
              ::testing::ElementsAre("a/b/second.h", "a/b/left_out.h"));
}

}  // namespace
}  // namespace muonp::test
