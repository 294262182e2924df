#include "core/files/checkpoint_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/rng.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

std::string content_of(std::int64_t step, int rank, std::size_t bytes) {
  std::string content(bytes, static_cast<char>('a' + (step + rank) % 26));
  content.replace(0, 8, fmt::format("{:04}{:04}", step % 10000, rank));
  return content;
}

// What `ranks` ranks and their rank 0 do, one after the other.
void save(const std::string& directory, std::int64_t step, int ranks = 2, std::size_t bytes = 1000) {
  CheckpointWriter writer = CheckpointStore(directory).begin(step);
  std::vector<CheckpointEntry> entries;
  for (int rank = ranks - 1; rank >= 0; --rank)
    entries.push_back(CheckpointPart(directory, step).add_file(fmt::format("rank-{}", rank), 0, [&](AtomicFile& file) {
      file.write(content_of(step, rank, bytes));
    }));
  writer.commit(entries, fmt::format(R"({{"seed": 7, "loss": 0.1, "step": {}}})", step));
}

// Error unless the checkpoint is exactly what save() wrote.
void expect_whole(const Checkpoint& checkpoint, int ranks, std::size_t bytes) {
  EXPECT_EQ(nlohmann::json::parse(checkpoint.state_json()).at("step"), checkpoint.step());
  ASSERT_EQ(checkpoint.entries().size(), static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank)
    EXPECT_EQ(get(checkpoint.file(fmt::format("rank-{}", rank))), content_of(checkpoint.step(), rank, bytes));
}

// Runs `work` in a child process that is killed after `microseconds`, however far it got.
void run_and_kill(std::uint64_t microseconds, const std::function<void()>& work) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      work();
    } catch (...) {
    }
    ::_exit(1);
  }
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed by itself";
}

}  // namespace

TEST(CheckpointStore, WritesAndOpens) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run/checkpoints";
  const CheckpointStore store(directory);
  EXPECT_FALSE(store.latest().has_value());
  save(directory, 1200, 3);
  EXPECT_THAT(store.steps(), ElementsAre(1200));
  expect_whole(store.open(1200), 3, 1000);
  expect_whole(store.open("1200"), 3, 1000);
  expect_whole(store.open(directory + "/step-00001200"), 3, 1000);
  expect_whole(*store.latest(), 3, 1000);
  EXPECT_EQ(entries_in(directory), 1);
  EXPECT_EQ(entries_in(directory + "/step-00001200"), 4);
  const std::string content = content_of(1200, 0, 1000);
  EXPECT_EQ(store.open(1200).entries().front(), (CheckpointEntry{"rank-0", 1000, hash_bytes(content.data(), 1000)}));
}

TEST(CheckpointStore, IsInvisibleUntilCommitted) {
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  save(folder.path(), 1);
  {
    CheckpointWriter writer = store.begin(2);
    CheckpointPart(folder.path(), 2).add_file("rank-0", 0, [](AtomicFile& file) { file.write("x"); });
    EXPECT_THAT(store.steps(), ElementsAre(1));
    EXPECT_EQ(store.latest()->step(), 1);
  }
  EXPECT_EQ(entries_in(folder.path()), 1);  // given up: the partial one is gone
  EXPECT_THAT(error_of([&] { CheckpointPart part(folder.path(), 2); }), HasSubstr("rank 0 has not begun"));
}

TEST(CheckpointStore, AFailingRankLeavesWhatWasThere) {
  const TemporaryFolder folder;
  save(folder.path(), 1);
  EXPECT_EQ(error_of([&] {
              CheckpointWriter writer = CheckpointStore(folder.path()).begin(2);
              CheckpointPart(folder.path(), 2).add_file("rank-0", 0, [](AtomicFile& file) {
                file.write("x");
                fail("no more");
              });
            }),
            "no more");
  expect_whole(*CheckpointStore(folder.path()).latest(), 2, 1000);
  EXPECT_EQ(entries_in(folder.path()), 1);
}

TEST(CheckpointStore, TheSameStepIsReplaced) {
  const TemporaryFolder folder;
  save(folder.path(), 5, 4, 100);
  save(folder.path(), 5, 2, 300);
  expect_whole(CheckpointStore(folder.path()).open(5), 2, 300);
  EXPECT_EQ(entries_in(folder.path()), 1);
}

TEST(CheckpointStore, KeepsThoseWrittenLastWhateverTheirSteps) {
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  for (const std::int64_t step : {300, 123456789, 100, 200}) save(folder.path(), step);
  EXPECT_THAT(store.by_age(), ElementsAre(300, 123456789, 100, 200));
  store.keep_last(5);
  EXPECT_THAT(store.steps(), ElementsAre(100, 200, 300, 123456789));
  store.keep_last(3);
  EXPECT_THAT(store.steps(), ElementsAre(100, 200, 123456789));
  EXPECT_EQ(store.latest()->step(), 200);
  save(folder.path(), 100);  // again
  store.keep_last(1);
  EXPECT_THAT(store.steps(), ElementsAre(100));
  EXPECT_EQ(entries_in(folder.path()), 1);
}

TEST(CheckpointStore, OrderOfWritingOutlivesClocksOlderProgramsAndDamage) {
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  const auto rewrite = [&](std::int64_t step, std::int64_t written) {
    const std::string file = store.path_of(step) + "/" + kManifestName;
    CheckpointManifest manifest = read_manifest(get(file), file);
    manifest.written = written;
    put(file, write_manifest(manifest));
  };
  for (const std::int64_t step : {10, 20, 30, 5}) save(folder.path(), step);
  const std::int64_t tomorrow = store.open(5).written() + 86'400'000'000;
  rewrite(20, tomorrow);
  save(folder.path(), 15);  // by a clock that was set back
  EXPECT_THAT(store.by_age(), ElementsAre(10, 30, 5, 20, 15));
  rewrite(10, 0);  // as programs wrote that did not record it
  rewrite(5, 0);
  EXPECT_THAT(store.by_age(), ElementsAre(5, 10, 30, 20, 15));
  put(store.path_of(30) + "/" + kManifestName, "{}");
  std::vector<std::string> refused;
  EXPECT_EQ(store.latest([&](const std::string& message) { refused.push_back(message); })->step(), 15);
  EXPECT_THAT(store.by_age(), ElementsAre(5, 10, 20, 30, 15));  // it stands after 20
}

TEST(CheckpointStore, CleansWhatDeadRunsLeft) {
  const TemporaryFolder folder;
  save(folder.path(), 1);
  save(folder.path(), 2);
  std::filesystem::create_directories(folder / "step-00000007.partial/x");
  std::filesystem::create_directories(folder / "step-00000001.replaced");  // its successor is in place
  std::filesystem::rename(folder / "step-00000002",
                          folder / "step-00000002.replaced");  // its successor is not
  std::filesystem::create_directories(folder / "my-own-notes.partial");
  const CheckpointStore store(folder.path());
  store.clean();
  EXPECT_THAT(store.steps(), ElementsAre(1, 2));
  EXPECT_EQ(entries_in(folder.path()), 3);
  EXPECT_EQ(store.latest()->step(), 2);
}

TEST(CheckpointStore, Pitfall41_AlteredFilesAreNamedAndRefused) {
  const TemporaryFolder folder;
  save(folder.path(), 1);
  const std::string path = folder / "step-00000001";
  const CheckpointStore store(folder.path());
  const auto altered = [&](const std::string& name, const std::function<void(std::string&)>& alter) {
    const std::string before = get(path + "/" + name);
    std::string after = before;
    alter(after);
    put(path + "/" + name, after);
    const std::string message = error_of([&] { store.open(1); });
    EXPECT_FALSE(store.latest().has_value());
    put(path + "/" + name, before);
    store.open(1);
    return message;
  };
  EXPECT_THAT(altered("rank-1", [](std::string& s) { s.resize(999); }),
              HasSubstr("step-00000001/rank-1 was truncated or altered: it has 999 bytes, the manifest says 1000"));
  EXPECT_THAT(altered("rank-1", [](std::string& s) { s[500] ^= 1; }),
              AllOf(HasSubstr("step-00000001/rank-1 was altered: its XXH3 checksum is"), HasSubstr("the manifest says")));
  EXPECT_THAT(altered("manifest.json", [](std::string& s) { s.resize(s.size() / 2); }),
              HasSubstr("manifest.json is damaged"));
  EXPECT_THAT(altered("manifest.json", [](std::string& s) { s.clear(); }), HasSubstr("manifest.json is damaged"));
  EXPECT_THAT(altered("manifest.json", [](std::string& s) { s.replace(s.find("0.1"), 3, "0.2"); }),
              HasSubstr("manifest.json was altered: its checksum is"));
  EXPECT_THAT(altered("manifest.json", [](std::string& s) { s.replace(s.find("\"version\": 1"), 12, "\"version\": 9"); }),
              HasSubstr("format version 9; this program reads version 1"));
  EXPECT_THAT(altered("manifest.json", [](std::string& s) { s = "[1]"; }), HasSubstr("not the manifest"));
  EXPECT_THAT(altered("manifest.json", [](std::string& s) { s = "{\"format\": \"other\"}"; }),
              HasSubstr("not the manifest"));
  const std::string manifest = get(path + "/manifest.json");
  for (std::uint64_t i = 0; i < 300; ++i) {
    std::string damaged = manifest;
    const std::uint64_t at = random_below(3, 0, i, manifest.size());
    damaged[at] = static_cast<char>(random_below(3, 1, i, 256));
    put(path + "/manifest.json", damaged);
    EXPECT_FALSE(error_of([&] { Checkpoint checkpoint(path); }).starts_with("other"));
  }
  std::filesystem::remove(path + "/manifest.json");
  EXPECT_THAT(error_of([&] { store.open(1); }), HasSubstr("it has no manifest.json"));
}

TEST(CheckpointStore, ErrorsSayWhatThereIs) {
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  EXPECT_THAT(error_of([&] { store.open(3); }), HasSubstr("no checkpoint of step 3"));
  save(folder.path(), 10);
  save(folder.path(), 20);
  EXPECT_THAT(error_of([&] { store.open("3"); }), HasSubstr("it has steps 10, 20"));
  EXPECT_THAT(error_of([&] { store.find("3"); }), HasSubstr("it has steps 10, 20"));
  EXPECT_EQ(store.find("20").path(), store.open(20).path());
  EXPECT_THAT(error_of([&] { store.open(folder / "none"); }), HasSubstr("there is no such folder"));
  EXPECT_THAT(error_of([&] { store.open(10).file("rank-9"); }), HasSubstr("has no file rank-9"));
}

TEST(CheckpointStore, LatestPassesOverDamagedOnesAndSaysSo) {
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  for (const std::int64_t step : {1, 2, 3}) save(folder.path(), step);
  put(folder / "step-00000003/rank-0", "short");
  std::filesystem::remove(folder / "step-00000002/rank-1");
  std::vector<std::string> refused;
  EXPECT_EQ(store.latest([&](const std::string& message) { refused.push_back(message); })->step(), 1);
  EXPECT_THAT(refused, ElementsAre(HasSubstr("step-00000003/rank-0"), HasSubstr("step-00000002/rank-1")));
}

TEST(CheckpointStore, CallersMistakesAreCaught) {
  const TemporaryFolder folder;
  CheckpointWriter writer = CheckpointStore(folder.path()).begin(1);
  const CheckpointPart part(folder.path(), 1);
  const auto write = [](AtomicFile& file) { file.write("x"); };
  for (const char* name : {"", "a/b", "..", ".x", "manifest.json"})
    EXPECT_THROW(part.add_file(name, 0, write), InternalError) << name;
  const CheckpointEntry entry = part.add_file("a", 0, write);
  EXPECT_THROW(writer.commit(std::vector{entry, entry}, "{}"), InternalError);
  EXPECT_THROW(writer.commit(std::vector{entry}, "no json"), InternalError);
  CheckpointEntry wrong = entry;
  wrong.bytes = 2;
  EXPECT_THAT(error_of([&] { writer.commit(std::vector{wrong}, "{}"); }), HasSubstr("has 1 bytes, 2 were written"));
  writer.commit(std::vector{entry}, "{}");
  EXPECT_THROW(writer.commit(std::vector{entry}, "{}"), InternalError);
}

TEST(CheckpointStore, Pitfall41_KilledWhileWritingThePreviousOneOpens) {
  constexpr int kKills = 25, kRanks = 2;
  constexpr std::size_t kBytes = 400'000;
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  auto* committed = static_cast<std::atomic<std::int64_t>*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(committed, MAP_FAILED);
  committed->store(0);
  const double before = seconds_now();
  save(folder.path(), 0, kRanks, kBytes);
  // On a loaded machine too, some are killed after a save has ended.
  const auto longest = std::max<std::uint64_t>(60'000, static_cast<std::uint64_t>(4e6 * (seconds_now() - before)));
  int leftovers = 0;
  for (std::uint64_t kill_number = 0; kill_number < kKills; ++kill_number) {
    run_and_kill(2000 + random_below(17, 0, kill_number, longest), [&] {
      for (std::int64_t step = committed->load() + 1;; ++step) {
        save(folder.path(), step, kRanks, kBytes);
        committed->store(step);
        store.keep_last(2);
      }
    });
    const auto latest = store.latest([](const std::string& message) { ADD_FAILURE() << message; });
    ASSERT_TRUE(latest.has_value());
    EXPECT_GE(latest->step(), committed->load());
    EXPECT_LE(latest->step(), committed->load() + 1);
    expect_whole(*latest, kRanks, kBytes);
    for (const std::int64_t step : store.steps()) expect_whole(store.open(step), kRanks, kBytes);
    committed->store(latest->step());
    leftovers += entries_in(folder.path()) > static_cast<int>(store.steps().size()) ? 1 : 0;
    store.clean();
    EXPECT_EQ(entries_in(folder.path()), static_cast<int>(store.steps().size()));
  }
  EXPECT_GT(leftovers, 0) << "no kill hit a checkpoint being written";
  EXPECT_GT(committed->load(), 0) << "no checkpoint was ever completed";
  ::munmap(committed, 4096);
}

TEST(CheckpointStore, Pitfall41_TheOnlyOneIsNeverAbsentWhileItIsReplaced) {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b"}) std::filesystem::create_directory(folder / name);
  if (::renameat2(AT_FDCWD, (folder / "a").c_str(), AT_FDCWD, (folder / "b").c_str(), RENAME_EXCHANGE) != 0)
    GTEST_SKIP() << "this file system cannot swap two names";
  save(folder.path(), 5, 2, 100);
  std::atomic<bool> stop = false;
  std::int64_t looks = 0, absent = 0;
  std::thread observer([&] {
    for (; !stop.load(); ++looks) absent += std::filesystem::exists(folder / "step-00000005/manifest.json") ? 0 : 1;
  });
  for (int i = 0; i < 30; ++i) save(folder.path(), 5, 2, 100);
  stop = true;
  observer.join();
  EXPECT_GT(looks, 30);
  EXPECT_EQ(absent, 0);
}

TEST(CheckpointStore, Pitfall41_KilledWhileReplacingTheOnlyOne) {
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  save(folder.path(), 5, 2, 100);
  for (std::uint64_t kill_number = 0; kill_number < 25; ++kill_number) {
    run_and_kill(2000 + random_below(18, 0, kill_number, 20'000), [&] {
      while (true) save(folder.path(), 5, 2, 100);
    });
    store.clean();
    const auto latest = store.latest([](const std::string& message) { ADD_FAILURE() << message; });
    ASSERT_TRUE(latest.has_value());
    expect_whole(*latest, 2, 100);
  }
}
