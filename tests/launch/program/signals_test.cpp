#include "launch/program/signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

TEST(StopSignals, EachSignalSetsTheFlag) {
  for (const auto& [number, name] :
       {std::pair{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}, {SIGHUP, "SIGHUP"}}) {
    StopSignals stop;
    EXPECT_FALSE(stop.requested());
    EXPECT_STREQ(stop.name(), "");
    std::raise(number);
    EXPECT_TRUE(stop.requested());
    EXPECT_EQ(stop.signal(), number);
    EXPECT_STREQ(stop.name(), name);
  }
}

TEST(StopSignals, RemembersTheFirstSignal) {
  StopSignals stop;
  std::raise(SIGTERM);
  std::raise(SIGUSR1);
  std::raise(SIGTERM);
  EXPECT_EQ(stop.signal(), SIGTERM);
}

// As nohup starts a program.
TEST(StopSignals, AHangUpThatIsIgnoredStaysIgnored) {
  std::signal(SIGHUP, SIG_IGN);
  {
    StopSignals stop;
    std::raise(SIGHUP);
    EXPECT_FALSE(stop.requested());
  }
  std::signal(SIGHUP, SIG_DFL);
}

TEST(StopSignals, TheFirstSignalIsAnswered) {
  const StopSignals stop(/*speaks=*/true);
  testing::internal::CaptureStderr();
  std::raise(SIGUSR1);
  std::raise(SIGTERM);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "muonp: SIGUSR1: the run ends after the step under way\n");
}

volatile std::sig_atomic_t outer_calls = 0;

TEST(StopSignals, RestoresTheHandlersBefore) {
  std::signal(SIGUSR1, [](int) { outer_calls = outer_calls + 1; });
  {
    StopSignals stop;
    std::raise(SIGUSR1);
    EXPECT_EQ(outer_calls, 0);
  }
  std::raise(SIGUSR1);
  EXPECT_EQ(outer_calls, 1);
  std::signal(SIGUSR1, SIG_DFL);
}

// As when the run has ended because another rank was asked to stop, and this rank's signal comes a moment later.
TEST(StopSignals, ASignalAfterTheEndDoesNotChangeTheStatus) {
  EXPECT_EXIT(
      {
        for (const int number : kStopSignals) std::signal(number, SIG_DFL);
        { const StopSignals stop; }
        for (const int number : kStopSignals) std::raise(number);
        _exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST(StopSignals, OneAtATime) {
  StopSignals stop;
  EXPECT_THROW(StopSignals(), core::InternalError);
}

TEST(StopSignals, SecondInterruptEndsAtOnce) {
  EXPECT_EXIT(
      {
        StopSignals stop;
        std::raise(SIGINT);
        usleep(400000);
        std::raise(SIGINT);
        _exit(1);
      },
      ::testing::ExitedWithCode(kInterruptedStatus), "interrupted twice");
}

TEST(StopSignals, OneInterruptDeliveredTwiceIsOne) {
  StopSignals stop;
  std::raise(SIGINT);
  std::raise(SIGINT);  // within the time in which a launcher forwards it
  EXPECT_EQ(stop.signal(), SIGINT);
}

bool blocks_stop_signals() {
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  return std::ranges::all_of(kStopSignals, [&](int number) { return sigismember(&blocked, number) == 1; });
}

TEST(SignalThread, ThreadsThatComputeBlockTheSignals) {
  {
    const SignalThread signal_thread;
    EXPECT_TRUE(blocks_stop_signals());
    bool later = false;
    std::jthread([&] { later = blocks_stop_signals(); }).join();
    EXPECT_TRUE(later);
  }
  EXPECT_FALSE(blocks_stop_signals());
}

TEST(SignalThread, TakesTheSignalsOfTheProcess) {
  const SignalThread signal_thread;
  const StopSignals stop;
  kill(getpid(), SIGTERM);
  for (int i = 0; i < 1000 && !stop.requested(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(stop.signal(), SIGTERM);
}

}  // namespace
}  // namespace muonp::launch
