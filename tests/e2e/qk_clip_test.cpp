// QK-clip in a training run: its record, the same at every world size and stage, and over a save.
#include <algorithm>
#include <array>

#include "tests/e2e/program.h"

namespace muonp::e2e {

class QkClipRun : public ProgramTest {
 protected:
  // A tau that the logits of the tiny model pass.
  static std::vector<std::string> settings(const std::vector<std::string>& more = {}) {
    std::vector<std::string> all = {"schedule.kind=constant", "schedule.warmup=1", "model.qk_clip.enabled=true",
                                    "model.qk_clip.tau=1e-3"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void expect_alike(const std::string& a, const std::string& b) const {
    EXPECT_EQ(metric(a, "clipped_heads"), metric(b, "clipped_heads")) << b;
    const std::vector<double> expected = metric(a, "max_logit"), got = metric(b, "max_logit");
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-3 * expected[i]) << b << ", step " << i;
    EXPECT_LT(difference(a, b), 1e-4) << b;
  }
};

TEST_F(QkClipRun, IsTheSameAtEveryWorldSizeAndStage) {
  train("one", settings());
  const std::vector<double> clipped = metric("one", "clipped_heads"), logits = metric("one", "max_logit");
  EXPECT_EQ(clipped.front(), 4);  // all heads of both layers
  EXPECT_LT(logits[1], logits[0] / 10);
  for (const auto& [ranks, zero, passes] : {std::array{2, 0, 1}, {2, 3, 2}, {4, 1, 1}, {4, 2, 1}}) {
    const std::string name = fmt::format("np{}zero{}", ranks, zero);
    train(name, settings({fmt::format("parallel.zero={}", zero), fmt::format("data.micro_batch={}", 12 / ranks / passes)}),
          ranks);
    expect_alike("one", name);
  }
}

// A tau that no logit reaches only looks.
TEST_F(QkClipRun, ChangesNothingWhereNoLogitIsAbove) {
  train("never", settings({"model.qk_clip.tau=1e9"}));
  const std::vector<double> clipped = metric("never", "clipped_heads");
  EXPECT_EQ(std::ranges::count(clipped, 0), std::ssize(clipped));
  std::vector<std::string> without = settings();
  without.resize(2);
  train("off", without);
  EXPECT_TRUE(metric("off", "max_logit").empty());
  EXPECT_EQ(difference("never", "off"), 0);
  train("clipped", settings());
  EXPECT_GT(difference("clipped", "off"), 0);
}

TEST_F(QkClipRun, NeedsNothingOfACheckpoint) {
  train("whole", settings());
  train("parts", settings({fmt::format("run.steps={}", steps() / 2)}));
  train("parts", settings());
  expect_alike("whole", "parts");
  EXPECT_EQ(difference("whole", "parts"), 0);
}

TEST_F(QkClipRun, BadInputSaysWhatIsValid) {
  for (const auto& [key, message] : {std::pair{"model.qk_clip.tau=-1", "a finite number above 0. MuonClip's is 100"},
                                     {"model.qk_clip.alpha=2", "model.qk_clip.alpha: 2 is out of range"},
                                     {"model.lora.rank=2", "model.lora freezes them"}}) {
    const Outcome outcome = muonp(train_arguments("bad", settings({key})), 2);
    EXPECT_EQ(outcome.status, 1) << outcome.out;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
  }
}

}  // namespace muonp::e2e
