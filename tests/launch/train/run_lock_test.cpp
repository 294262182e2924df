#include "launch/train/run_lock.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace muonp::launch {
namespace {

using testing::HasSubstr;

struct RunLocks : testing::Test {
  const test::TemporaryFolder folder;
  const std::string run = folder / "runs/one", file = run + "/run.lock";
  std::vector<std::string> said;

  std::unique_ptr<RunLock> take(double patience = 0.3) {
    return std::make_unique<RunLock>(
        run, [this](const std::string& line) { said.push_back(line); }, patience);
  }
  std::string refusal(double patience = 0.3) {
    return test::message_of<core::Error>([&] { take(patience); });
  }
  void hold_on_another_host() const {
    std::filesystem::create_directories(run);
    test::put(file, R"({"process":77,"host":"node9","since":"2026-01-02 03:04:05 UTC","boot":"another","born":5})");
  }
};

TEST_F(RunLocks, AFolderHasOneHolderWhoIsNamed) {
  const auto first = take();
  const std::string content = test::get(file), why = refusal();
  for (const std::string& part : {run + " is in use by another run", fmt::format("process {} on ", ::getpid()),
                                  std::string("since 20"), std::string("another run.name")})
    EXPECT_THAT(why, HasSubstr(part));
  EXPECT_EQ(test::get(file), content);
  first->require();
  EXPECT_TRUE(said.empty());
}

TEST_F(RunLocks, GoesWithItsHolder) {
  take();
  EXPECT_FALSE(std::filesystem::exists(file));
  take()->require();
}

TEST_F(RunLocks, AFolderThatWasMadeForNothingGoesToo) {
  take();
  EXPECT_FALSE(std::filesystem::exists(run));
  {
    const auto lock = take();
    test::put(run + "/metrics.jsonl", "");
  }
  EXPECT_TRUE(std::filesystem::exists(run + "/metrics.jsonl"));
  std::filesystem::remove(run + "/metrics.jsonl");
  take();
  EXPECT_TRUE(std::filesystem::exists(run)) << "it was there before";
}

TEST_F(RunLocks, AKilledHolderOfThisMachineIsSucceededAtOnce) {
  std::filesystem::create_directories(run);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = take();
    for (;;) ::pause();
  }
  while (test::get(file).empty()) ::usleep(1000);
  EXPECT_THAT(refusal(), HasSubstr(fmt::format("process {} on ", child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  const auto begin = std::chrono::steady_clock::now();
  take(1000)->require();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  EXPECT_THAT(said, testing::ElementsAre(HasSubstr(fmt::format("is taken over from process {} on ", child))));
}

TEST_F(RunLocks, AHolderOfAnotherHostIsWatched) {
  hold_on_another_host();
  std::jthread alive([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      ::usleep(20'000);
      std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now());
    }
  });
  EXPECT_THAT(refusal(30), HasSubstr("process 77 on node9, since 2026-01-02 03:04:05 UTC"));
  alive = {};
  take()->require();
  EXPECT_THAT(said.back(), HasSubstr("is taken over from process 77 on node9"));
}

TEST_F(RunLocks, ANameThatWasCutShortIsThatOfADeadRun) {
  std::filesystem::create_directories(run);
  test::put(file, R"({"process":77,"ho)");
  take()->require();
  EXPECT_THAT(said.back(), HasSubstr("is taken over"));
}

TEST_F(RunLocks, AHolderThatWasTakenForDeadNotices) {
  const auto first = take();
  hold_on_another_host();
  EXPECT_THAT(test::message_of<core::Error>([&] { first->require(); }),
              HasSubstr("process 77 on node9, since 2026-01-02 03:04:05 UTC has taken it over"));
}

}  // namespace
}  // namespace muonp::launch
