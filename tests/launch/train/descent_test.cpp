#include "launch/train/descent.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/files/files.h"
#include "tests/support/temporary_folder.h"

namespace muonp::launch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Lines : testing::Test {
  const test::TemporaryFolder folder;
  const core::Log log{0, 1};
  const core::CheckpointStore store{folder / "runs/one/checkpoints"};
  DamagedCheckpoints damaged{log};
  const LinesOfDescent lines{folder / "runs/one", store, log, damaged};

  static void save(const core::CheckpointStore& to, std::int64_t step, const std::vector<BranchStart>& starts = {}) {
    core::CheckpointWriter writer = to.begin(step);
    const core::CheckpointPart part(to.directory(), step);
    const core::CheckpointEntry entry = part.add_file("x", 0, [](core::AtomicFile& file) { file.write("x"); });
    writer.commit(std::vector{entry}, nlohmann::json{{"step", step}, {kStartsKey, to_json(starts)}}.dump());
  }
  void save(std::int64_t step, const std::vector<BranchStart>& starts = {}) const { save(store, step, starts); }
  void save_all(std::initializer_list<std::int64_t> steps) const {
    for (const std::int64_t step : steps) save(step);
  }
  std::string refusal(const std::string& named) const {
    return test::message_of<core::Error>([&] { lines.branch(named, false); });
  }
};

TEST_F(Lines, NothingOfAnEmptyFolder) { EXPECT_EQ(lines.newest().path, ""); }

TEST_F(Lines, ABranchBeginsAtItsStartAndGoesOnFromItsOwnNewest) {
  save_all({5, 10});
  const Descent first = lines.branch("10", false);
  EXPECT_EQ(first.path, store.path_of(10));
  EXPECT_EQ(first.starts, (std::vector<BranchStart>{{10, store.open(10).checksum(), "10"}}));
  save(15, first.starts);
  save(20, first.starts);
  for (const std::string& named : {std::string("10"), store.path_of(10), store.path_of(10) + "/"}) {
    const Descent again = lines.branch(named, false);
    EXPECT_EQ(again.path, store.path_of(20)) << named;
    EXPECT_EQ(again.starts, first.starts) << named;
  }
  EXPECT_EQ(lines.newest().starts, first.starts);  // auto stays on the line
}

TEST_F(Lines, ABranchOfABranchDescendsFromBothStarts) {
  save_all({10});
  save(20, lines.branch("10", false).starts);
  const Descent second = lines.branch("20", false);
  EXPECT_EQ(second.starts.size(), 2u);
  save(25, second.starts);
  EXPECT_EQ(lines.branch("20", false).path, store.path_of(25));
  EXPECT_EQ(lines.branch("10", false).path, store.path_of(25));
}

TEST_F(Lines, NewerCheckpointsOfAnotherLineAreRefusedWithTheChoices) {
  save_all({10, 20, 30});
  const std::string why = refusal("10");
  for (const char* part : {"of steps 20, 30", "checkpoint.resume=auto", "another run.name", "checkpoint.set_aside=true",
                           "checkpoints/step-00000010. To branch"})
    EXPECT_THAT(why, HasSubstr(part));
  EXPECT_THAT(store.steps(), ElementsAre(10, 20, 30));
  EXPECT_EQ(refusal("30"), "");
  EXPECT_THAT(refusal("40"), HasSubstr("no checkpoint of step 40"));
}

TEST_F(Lines, WhatIsSetAsideIsARunOfItsOwn) {
  save_all({10, 20, 30});
  test::put(folder / "runs/one/metrics.jsonl", "{\"step\":30}\n");
  const Descent descent = lines.branch("10", true);
  EXPECT_THAT(descent.others, ElementsAre(20, 30));
  lines.set_aside(descent);
  EXPECT_THAT(store.steps(), ElementsAre(10));
  EXPECT_EQ(test::get(folder / "runs/one/metrics.jsonl"), "{\"step\":30}\n");  // the branch's too, up to its start
  const std::string aside = folder / "runs/one/aside-1";
  EXPECT_THAT(set_aside_in(folder / "runs/one"), ElementsAre(aside));
  EXPECT_EQ(test::get(aside + "/metrics.jsonl"), "{\"step\":30}\n");
  EXPECT_THAT(core::CheckpointStore(aside + "/checkpoints").steps(), ElementsAre(20, 30));
  core::CheckpointStore(aside + "/checkpoints").open(30);
  EXPECT_TRUE(lines.branch("10", true).others.empty());
}

// The two renames before the last are done, and the process is killed.
TEST_F(Lines, AMoveThatWasCutShortIsCompletedByTheNext) {
  save_all({10, 20, 30});
  const std::string partial = folder / "runs/one/aside-1.partial/checkpoints";
  std::filesystem::create_directories(partial);
  std::filesystem::rename(store.path_of(20), partial + "/step-00000020");
  lines.set_aside(lines.branch("10", true));
  EXPECT_THAT(core::CheckpointStore(folder / "runs/one/aside-1/checkpoints").steps(), ElementsAre(20, 30));
}

TEST_F(Lines, AStartInAnotherFolderNeedsAFolderWithoutOtherLines) {
  const core::CheckpointStore other(folder / "runs/two/checkpoints");
  save(other, 10);
  const Descent first = lines.branch(other.path_of(10), false);
  EXPECT_EQ(first.path, other.path_of(10));
  save(12, first.starts);
  EXPECT_EQ(lines.branch(other.path_of(10), false).path, store.path_of(12));
  save(5);
  EXPECT_THAT(refusal(other.path_of(10)), HasSubstr("of step 5."));
  lines.set_aside(lines.branch(other.path_of(10), true));
  EXPECT_THAT(store.steps(), ElementsAre(12));
}

TEST_F(Lines, ABranchOutlivesItsStart) {
  const core::CheckpointStore other(folder / "runs/two/checkpoints");
  save(other, 10);
  save(12, lines.branch(other.path_of(10), false).starts);
  std::filesystem::remove_all(other.path_of(10));
  EXPECT_EQ(lines.branch(other.path_of(10), false).path, store.path_of(12));
  // Another checkpoint in the start's place is another start.
  save(other, 10);
  EXPECT_THAT(refusal(other.path_of(10)), HasSubstr("of step 12."));
}

TEST_F(Lines, DamagedCheckpointsOfABranchArePassedOver) {
  save_all({10});
  const std::vector<BranchStart> starts = lines.branch("10", false).starts;
  save(15, starts);
  save(20, starts);
  test::put(store.path_of(20) + "/manifest.json", "{}");
  EXPECT_EQ(lines.branch("10", false).path, store.path_of(15));
  damaged.add(store.path_of(15), "its file x was altered");  // as ranks find that share the reading out
  EXPECT_EQ(lines.branch("10", false).path, store.path_of(10));
  EXPECT_EQ(lines.newest().path, store.path_of(10));
  damaged.add(store.path_of(10), "its file x too");
  EXPECT_THAT(refusal("10"), HasSubstr("its file x too"));
  EXPECT_THAT(test::message_of<core::Error>([&] { lines.newest(); }),
              AllOf(HasSubstr("is intact, and starting over would lose the run"), HasSubstr("its file x too")));
}

TEST_F(Lines, AStateThatIsNoListOfStartsIsRefused) {
  core::CheckpointWriter writer = store.begin(1);
  writer.commit({}, R"({"starts": [{"step": -1}]})");
  EXPECT_THAT(test::message_of<core::Error>([&] { starts_of(core::Checkpoint(store.path_of(1))); }),
              HasSubstr("no list of starts"));
}

}  // namespace
}  // namespace muonp::launch
