// Folders are floors: each is a CMake target, and its files include those of its own floor and of the floors that the
// target links. What may include what is read from CMake, so that the linker and this test hold the same arrows.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <fstream>
#include <map>
#include <set>

#include "tests/house/source_tree.h"

namespace muonp::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Names = std::set<std::string>;

struct Floors {
  std::map<std::string, Names> links;   // what a floor's own files see
  std::map<std::string, Names> passes;  // of these, what those that link it see too
};

Floors read_floors() {
  std::ifstream file(MUONP_BUILD_FOLDER "/tests/house/floors.txt");
  Floors floors;
  for (std::string from, kind, to; file >> from >> kind >> to;) {
    floors.links[from].insert(to);
    if (kind == "PUBLIC") floors.passes[from].insert(to);
  }
  return floors;
}

void collect(const Floors& floors, const std::string& floor, Names& seen) {
  if (!seen.insert(floor).second || !floors.passes.contains(floor)) return;
  for (const std::string& next : floors.passes.at(floor)) collect(floors, next, seen);
}

Names visible_from(const Floors& floors, const std::string& floor) {
  Names seen;
  for (const std::string& next : floors.links.at(floor)) collect(floors, next, seen);
  return seen;
}

// One line for each include that goes where the floor's target does not.
std::vector<std::string> violations(const Floors& floors, const std::vector<SourceFile>& files) {
  std::vector<std::string> all;
  for (const SourceFile& file : files) {
    const std::string floor = floor_of(file.path);
    if (!floors.links.contains(floor)) {
      all.push_back(fmt::format("{} lies on no floor: no CMake target has the folder {}", file.path, floor));
      continue;
    }
    const Names visible = visible_from(floors, floor);
    for (const std::string& included : includes_of(file))
      if (included.find('/') != std::string::npos && !visible.contains(floor_of(included)))
        all.push_back(
            fmt::format("{} includes {}, but {} does not link {}", file.path, included, floor, floor_of(included)));
  }
  return all;
}

// The floors of one cycle, or nothing. `path` leads here.
std::vector<std::string> cycle_from(const Floors& floors, const std::string& floor, std::vector<std::string>& path,
                                    Names& done) {
  if (const auto back = std::ranges::find(path, floor); back != path.end()) return {back, path.end()};
  if (done.contains(floor) || !floors.links.contains(floor)) return {};
  path.push_back(floor);
  for (const std::string& next : floors.links.at(floor)) {
    if (next == floor) continue;  // its own files
    if (auto cycle = cycle_from(floors, next, path, done); !cycle.empty()) return cycle;
  }
  path.pop_back();
  done.insert(floor);
  return {};
}

std::vector<std::string> cycle_of(const Floors& floors) {
  Names done;
  std::vector<std::string> path;
  for (const auto& [floor, links] : floors.links)
    if (auto cycle = cycle_from(floors, floor, path, done); !cycle.empty()) return cycle;
  return {};
}

TEST(Floors, NoIncludeGoesWhereTheLinkerDoesNot) {
  const std::vector<std::string> all = violations(read_floors(), sources_of(kProgram));
  EXPECT_THAT(all, IsEmpty()) << fmt::format("{}", fmt::join(all, "\n"));
}

TEST(Floors, HaveNoCycle) {
  const Floors floors = read_floors();
  EXPECT_TRUE(floors.links.contains("core/base") && floors.links.contains("launch/commands"));
  EXPECT_THAT(cycle_of(floors), IsEmpty());
}

TEST(Floors, AnArrowThatRunsUpIsNamed) {
  const Floors floors = {.links = {{"core/base", {"core/base"}},
                                   {"core/device", {"core/device", "core/base"}},
                                   {"dist/comm", {"dist/comm", "core/device"}}},
                         .passes = {{"core/device", {"core/base"}}}};
  const std::vector<SourceFile> files = {{"core/base/error.h", "#include \"core/device/tensor.h\"\n"},
                                         {"dist/comm/async.cpp", "#include <thread>\n#include \"core/base/error.h\"\n"},
                                         {"dist/new/plan.h", ""}};
  EXPECT_THAT(violations(floors, files),
              ElementsAre("core/base/error.h includes core/device/tensor.h, but core/base does not link core/device",
                          "dist/new/plan.h lies on no floor: no CMake target has the folder dist/new"));
}

TEST(Floors, WhatATargetLinksPrivatelyIsForItsOwnFilesOnly) {
  const Floors floors = {.links = {{"core/base", {"core/base"}},
                                   {"core/files", {"core/files", "core/base"}},
                                   {"core/data", {"core/data", "core/files"}}},
                         .passes = {{"core/files", {"core/files"}}}};
  const SourceFile below = {"core/files/npy.cpp", "#include \"core/base/error.h\"\n"};
  const SourceFile above = {"core/data/dataset.cpp", "#include \"core/base/error.h\"\n"};
  EXPECT_THAT(violations(floors, {below}), IsEmpty());
  EXPECT_THAT(violations(floors, {above}),
              ElementsAre("core/data/dataset.cpp includes core/base/error.h, but core/data does not link core/base"));
}

TEST(Floors, ACycleIsNamed) {
  const Floors floors = {.links = {{"a", {"a", "b"}}, {"b", {"c"}}, {"c", {"b"}}}, .passes = {}};
  EXPECT_THAT(cycle_of(floors), ElementsAre("b", "c"));
}

}  // namespace
}  // namespace muonp::test
