#include "launch/report/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>

namespace muonp::launch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A file to draw into, and a clock that the test moves.
class ProgressTest : public ::testing::Test {
 protected:
  ProgressOptions options(bool terminal) {
    ProgressOptions o;
    o.out = out_.get();
    o.terminal = terminal;
    o.columns = 80;
    o.redraw_seconds = 1;
    o.line_seconds = 10;
    o.clock = [this] { return now_; };
    return o;
  }
  std::string written() {
    std::fflush(out_.get());
    std::string text(static_cast<std::size_t>(std::ftell(out_.get())), '\0');
    std::rewind(out_.get());
    text.resize(std::fread(text.data(), 1, text.size(), out_.get()));
    return text;
  }
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::unique_ptr<std::FILE, Close> out_{std::tmpfile()};
  double now_ = 100;
};

TEST_F(ProgressTest, LinesAreSparseWithoutATerminal) {
  Progress progress("train", 100, 0, options(false));
  for (int step = 1; step <= 30; ++step) {
    now_ += 1;
    progress.update(step, "loss 3.21");
  }
  EXPECT_EQ(written(),
            "train 10/100 (10 %), 1 min 30 s left, loss 3.21\n"
            "train 20/100 (20 %), 1 min 20 s left, loss 3.21\n"
            "train 30/100 (30 %), 1 min 10 s left, loss 3.21\n");
}

TEST_F(ProgressTest, BarShowsShareTimeLeftAndNote) {
  Progress progress("train", 100, 0, options(true));
  now_ += 25;
  progress.update(25, "loss 3.21");
  EXPECT_EQ(written(), "\rtrain [#########...........................] 25/100, 1 min 15 s left, loss 3.21\x1b[K");
}

TEST_F(ProgressTest, BarRedrawsNoOftenerThanAsked) {
  Progress progress("train", 100, 0, options(true));
  progress.update(1, "");
  const std::string first = written();
  now_ += 0.5;
  progress.update(2, "");
  EXPECT_EQ(written(), first);
  now_ += 0.6;
  progress.update(3, "");
  EXPECT_THAT(written(), HasSubstr("3/100"));
}

TEST_F(ProgressTest, LastStepIsAlwaysDrawn) {
  Progress progress("train", 2, 0, options(true));
  progress.update(1, "");
  progress.update(2, "");
  EXPECT_THAT(written(), HasSubstr("2/2"));
}

TEST_F(ProgressTest, TimeLeftCountsFromWhereARunWasResumed) {
  Progress progress("train", 100, 80, options(false));
  now_ += 10;
  progress.update(90, "");
  EXPECT_EQ(written(), "train 90/100 (90 %), 10.0 s left\n");
}

TEST_F(ProgressTest, PrintedLinesStandAboveTheBar) {
  Progress progress("train", 10, 0, options(true));
  progress.update(1, "");
  const std::size_t before = written().size();
  progress.print("step 1");
  const std::string after = written().substr(before);
  EXPECT_EQ(after.find("\r\x1b[Kstep 1\n\rtrain"), 0u) << after;
}

TEST_F(ProgressTest, NarrowTerminalsGetNoBarAndNoWrap) {
  ProgressOptions o = options(true);
  o.columns = 24;
  Progress progress("train", 10, 0, o);
  now_ += 1;
  progress.update(5, "loss 3.21 and much more");
  const std::string line = written();
  EXPECT_THAT(line, AllOf(HasSubstr("5/10"), Not(HasSubstr("#"))));
  EXPECT_LE(line.size(), 23 + std::string("\r\x1b[K").size());
}

TEST_F(ProgressTest, LeavesACleanLineBehind) {
  {
    Progress progress("train", 10, 0, options(true));
    progress.update(1, "");
  }
  EXPECT_TRUE(written().ends_with("\r\x1b[K"));
}

TEST_F(ProgressTest, AFileIsNoTerminal) { EXPECT_FALSE(progress_options_for(out_.get()).terminal); }

}  // namespace
}  // namespace muonp::launch
