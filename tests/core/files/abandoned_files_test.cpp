#include "core/files/abandoned_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "core/files/files.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::ElementsAre;
using testing::StartsWith;

namespace {

// What a process leaves that is killed while it writes `path`.
void write_and_be_killed(const std::string& path) {
  const int pid = ::fork();
  if (pid == 0) {
    AtomicFile file(path);
    file.write("half of");
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(pid, nullptr, 0);
}

}  // namespace

TEST(AbandonedFiles, TemporariesOfKilledProcessesAreRemoved) {
  const TemporaryFolder folder;
  write_and_be_killed(folder / "a");
  ASSERT_THAT(list_directory(folder.path()), ElementsAre(StartsWith("a.tmp-")));
  remove_abandoned_files(folder.path());
  EXPECT_EQ(entries_in(folder.path()), 0);
  remove_abandoned_files(folder / "absent");
}

TEST(AbandonedFiles, WhatIsBeingWrittenStays) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "a");
  file.write("x");
  remove_abandoned_files(folder.path());
  EXPECT_EQ(entries_in(folder.path()), 1);
  file.patch(0, "y", 1);
  file.commit();
  EXPECT_EQ(get(folder / "a"), "y");
}

TEST(AbandonedFiles, FilesOfOthersStay) {
  const TemporaryFolder folder;
  const std::string mark = temporary_mark();
  for (const std::string& name :
       {std::string("a.tmp-another-host-17-0"), "notes" + mark + "mine", mark + "5-0", std::string("a.tmp")})
    put(folder / name, "x");
  std::filesystem::create_directories(folder / ("folder" + mark + "7-0"));
  remove_abandoned_files(folder.path());
  EXPECT_EQ(entries_in(folder.path()), 5);
}
