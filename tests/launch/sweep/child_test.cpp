#include "launch/sweep/child.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "core/base/error.h"
#include "launch/program/signals.h"
#include "tests/support/file_test.h"

namespace muonp::launch {
namespace {

using ::testing::HasSubstr;

class Children : public test::FileTest {
 protected:
  Child::Command shell(const std::string& script, std::vector<std::string> environment = {}) const {
    return {{"sh", "-c", script}, std::move(environment), path("log")};
  }
  static int wait(Child& child) {
    while (!child.status()) ::usleep(1000);
    return *child.status();
  }
  std::string log() const { return test::get(path("log")); }
  void wait_for(const std::string& text) const {
    while (log().find(text) == std::string::npos) ::usleep(1000);
  }
};

TEST_F(Children, LeaveStatusAndOutput) {
  ::setenv("MUONP_CHILD_TEST", "mine", 1);
  make("log", "what an earlier one has printed\n");
  Child child(shell("echo $MUONP_CHILD_TEST; echo $MUONP_CHILD_OTHER >&2; cat; exit 7", {"MUONP_CHILD_OTHER=theirs"}));
  EXPECT_EQ(wait(child), 7);
  EXPECT_EQ(log(), "mine\ntheirs\n");
  Child other(shell("echo $MUONP_CHILD_TEST", {"MUONP_CHILD_TEST=theirs"}));
  EXPECT_EQ(wait(other), 0);
  EXPECT_EQ(log(), "theirs\n");
  Child killed(shell("kill -9 $$"));
  EXPECT_EQ(wait(killed), 128 + SIGKILL);
}

TEST_F(Children, WhatCannotBeStartedIsNamed) {
  EXPECT_THAT(test::message_of<core::Error>([&] {
                Child({{"/nowhere/program"}, {}, path("log")});
              }),
              HasSubstr("/nowhere/program cannot be started: No such file or directory"));
  EXPECT_THAT(test::message_of<core::Error>([&] {
                Child({{"true"}, {}, path("no/folder/log")});
              }),
              HasSubstr("no/folder/log"));
}

TEST_F(Children, AreAskedToStopThoughThisProgramBlocksSignals) {
  const SignalThread signals;
  Child child(shell("trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done"));
  wait_for("ready");
  child.ask_to_stop();
  EXPECT_EQ(wait(child), 3);
  EXPECT_EQ(log(), "ready\nasked\n");
}

TEST_F(Children, EndWithTheirOwner) {
  {
    const Child child(shell("trap 'echo asked; exit' TERM; echo ready; while :; do sleep 0.05; done"));
    wait_for("ready");
  }
  EXPECT_EQ(log(), "ready\nasked\n");
}

TEST_F(Children, AreAskedToStopWhenThisProcessIsKilled) {
  const pid_t parent = ::fork();
  if (parent == 0) {
    Child child(shell("trap 'echo asked; exit' TERM; echo ready; while :; do sleep 0.05; done"));
    for (;;) ::pause();
  }
  wait_for("ready");
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  wait_for("asked");
}

}  // namespace
}  // namespace muonp::launch
