#include <cmath>

#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Compression : public ProgramTest {
 protected:
  static std::vector<std::string> settings(const std::string& to_owner, const std::string& to_workers,
                                           const std::string& others) {
    // Of gradients that are not summed the mean's norm is not known: no clipping where runs are compared.
    return {"compression.to_owner=" + to_owner,
            "compression.to_workers=" + to_workers,
            "compression.others=" + others,
            "optimizer.clip=0",
            "checkpoint.every=10",
            "checkpoint.keep=5"};
  }
};

TEST_F(Compression, IdentityTrainsLikeNone) {
  for (int ranks : {1, 4}) {
    const std::string n = std::to_string(ranks);
    train("none" + n, settings("none", "none", "none"), ranks);
    train("identity" + n, settings("identity", "identity", "none"), ranks);
    EXPECT_LE(difference("none" + n, "identity" + n), ranks == 1 ? 0 : 1e-4);
  }
}

TEST_F(Compression, CompressedRunsLearnAndSayWhatTheySend) {
  train("none", settings("none", "none", "none"), 4);
  const double uncompressed = metric("none", "loss").back(), sent = metric("none", "sent_bytes").back();
  struct Case {
    const char *up, *down;
  };
  for (const Case& c : {Case{"'top_k_natural 0.2'", "'top_k_natural 0.2'"}, {"sign", "natural"}, {"'rank 2'", "int8"}}) {
    train("run", settings(c.up, c.down, "int8"), 4);
    EXPECT_LE(metric("run", "loss").back(), 1.1 * uncompressed) << c.up;
    EXPECT_LT(metric("run", "sent_bytes").back(), sent / 4) << c.up;
    core::remove_tree(path("runs/run"));
  }
}

TEST_F(Compression, Pitfall39_ResumeIsBitEqualAndOtherWorldSizesGoOn) {
  for (const std::string estimates : {"float32", "int8"}) {
    auto with = settings("'top_k_natural 0.2'", "sign", "int8");
    with.push_back("compression.state_dtype=" + estimates);
    train(estimates, with, 3);
    const std::vector<double> expected = metric(estimates, "loss");
    const std::string last = path(fmt::format("runs/{}/checkpoints/step-{:08}", estimates, steps()));
    core::remove_tree(last);
    train(estimates, with, 3);
    EXPECT_EQ(metric(estimates, "loss"), expected);
    for (int ranks : {1, 2, 4}) {
      core::remove_tree(last);
      train(estimates, with, ranks);
      EXPECT_NEAR(metric(estimates, "loss").back(), expected.back(), 0.05 * expected.back()) << ranks;
    }
  }
}

TEST_F(Compression, StagesThatShardWhatItNeedsAreRefused) {
  for (int zero : {2, 3}) {
    auto with = settings("natural", "natural", "int8");
    with.push_back("parallel.zero=" + std::to_string(zero));
    const Outcome refused = muonp(train_arguments("refused", with), 2);
    EXPECT_NE(refused.status, 0);
    EXPECT_NE(refused.err.find("momentum, estimates and weights"), std::string::npos) << refused.err;
  }
}

TEST_F(Compression, PlanShowsEveryCompressor) {
  const Outcome plan = muonp(
      "plan tiny.yaml --ranks 4 --compressors --set compression.to_owner='rank 3' "
      "--set compression.to_workers=natural");
  EXPECT_EQ(plan.status, 0) << plan.err;
  for (const char* name : {"identity", "top_k 0.1", "top_k_natural 0.1", "natural", "sign", "int8", "rank 16", "rank 3"})
    EXPECT_NE(plan.out.find(std::string(name) + " "), std::string::npos) << name;
}

}  // namespace muonp::e2e
