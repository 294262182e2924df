#include <cmath>

#include "tests/e2e/program.h"

namespace muonp::e2e {

using Train = ProgramTest;

TEST_F(Train, LearnsAndWritesItsFiles) {
  train("one", {});
  const std::vector<double> losses = metric("one", "loss");
  ASSERT_EQ(losses.size(), steps());
  EXPECT_NEAR(losses.front(), std::log(256.0), 0.3);
  EXPECT_LT(losses.back(), 0.8 * losses.front());
  EXPECT_EQ(metric("one", "val_loss").size(), steps() / 10);
  for (const char* key : {"step", "loss", "lr", "grad_norm", "seconds", "tokens"})
    EXPECT_GE(metric("one", key).size(), losses.size()) << key;
  EXPECT_EQ(metric("one", "tokens").back(), steps() * 12 * sequence());
  // The resolved configuration runs as it is.
  const Outcome again = muonp("config runs/one/config.resolved.yaml");
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(again.out, read("runs/one/config.resolved.yaml"));
}

// The reference is the CPU's on GPUs too. The configuration compares the weights' hash over ranks after every
// step (log.hash_every: 1).
TEST_F(Train, Pitfall19_SameLossesAndHashesAtEveryWorldSizeAndStage) {
  train("reference", {"device=cpu", "parallel.zero=0"});
  for (int ranks : {1, 2, 3, 4})
    for (int zero : {0, 1, 2}) {
      const std::string name = "np" + std::to_string(ranks) + "-zero" + std::to_string(zero);
      train(name, {"parallel.zero=" + std::to_string(zero)}, ranks);
      EXPECT_LE(difference("reference", name), 1e-4) << name;
    }
  train("np4-zero3", {"parallel.zero=3", "parallel.prefetch=2", "parallel.check=true"}, 4);
  EXPECT_LE(difference("reference", "np4-zero3"), 1e-4);
}

TEST_F(Train, Pitfall01_SameLossesWithAccumulationOverlapAndDropout) {
  train("reference", {"device=cpu", "model.dropout=0.1"});
  struct Case {
    int ranks, micro_batch, zero;
    const char* overlap;
  };
  for (const Case& c :
       {Case{1, 4, 0, "false"}, Case{1, 4, 2, "false"}, Case{2, 3, 1, "true"}, Case{2, 3, 2, "true"}, Case{3, 2, 0, "true"},
        Case{4, 1, 1, "false"}, Case{4, 1, 2, "true"}, Case{2, 3, 3, "true"}, Case{3, 2, 3, "false"}}) {
    const std::string name = fmt::format("np{}-micro{}-zero{}", c.ranks, c.micro_batch, c.zero);
    train(
        name,
        {"model.dropout=0.1", fmt::format("data.micro_batch={}", c.micro_batch), fmt::format("parallel.zero={}", c.zero),
         fmt::format("parallel.overlap={}", c.overlap), fmt::format("model.recompute={}", c.zero == 3 ? "blocks" : "none")},
        c.ranks);
    EXPECT_LE(difference("reference", name), 1e-4) << name;
  }
}

// Every rank takes part in every forward pass, so one that has no text left goes through it all the same.
TEST_F(Train, Pitfall29_Stage3ValidatesTextThatRanksCannotShareEvenly) {
  const std::vector<std::string> all = {"run.steps=3", "log.validate_every=3", "log.validation_batches=0",
                                        "data.micro_batch=1", "checkpoint.at_end=false"};
  std::vector<std::string> sharded = all;
  for (const char* setting : {"parallel.zero=3", "parallel.overlap=true", "parallel.check=true"}) sharded.push_back(setting);
  train("whole", all);
  train("sharded", sharded, 3);
  const double expected = metric("whole", "val_loss").back();
  EXPECT_NEAR(metric("sharded", "val_loss").back(), expected, 1e-4 * expected);
}

TEST_F(Train, EmulatedBfloat16LearnsLikeFloat32) {
  train("single", {"device=cpu"});
  train("half", {"device=cpu", "parallel.compute=bfloat16", "parallel.emulate_bfloat16=true"}, 2);
  EXPECT_LE(difference("single", "half"), 0.02);
  EXPECT_GT(difference("single", "half"), 0);
}

TEST_F(Train, EveryRuleAndMethodRuns) {
  for (const char* setting : {"optimizer.matrices.rule=adamw", "optimizer.matrices.rule=sgd", "optimizer.matrices.p=0",
                              "optimizer.matrices.p=-1/4", "optimizer.matrices.p=1", "optimizer.matrices.method=svd",
                              "optimizer.matrices.method=coupled_newton"}) {
    train("rule", {setting, "run.steps=4", "checkpoint.at_end=false"}, 2);
    for (double loss : metric("rule", "loss")) EXPECT_TRUE(std::isfinite(loss)) << setting;
  }
}

TEST_F(Train, EvalAndGenerateReadTheRun) {
  train("one", {"log.validation_batches=0", fmt::format("log.validate_every={}", steps())}, 2);
  const Outcome eval = muonp("eval runs/one --json");
  ASSERT_EQ(eval.status, 0) << eval.err;
  // Another cut into batches sums in another order.
  const double validated = metric("one", "val_loss").back();
  const std::size_t at = eval.out.find("\"loss\": ");
  ASSERT_NE(at, std::string::npos) << eval.out;
  EXPECT_NEAR(std::stod(eval.out.substr(at + 8)), validated, 1e-5 * validated);

  const Outcome a = muonp("generate runs/one --prompt sun --tokens 20 --seed 4");
  const Outcome b = muonp("generate runs/one --prompt sun --tokens 20 --seed 4");
  const Outcome c = muonp("generate runs/one --prompt sun --tokens 20 --seed 5");
  ASSERT_EQ(a.status, 0) << a.err;
  EXPECT_EQ(a.out.substr(0, 3), "sun");
  EXPECT_EQ(a.out.size(), 3u + 20 + 1);  // bytes are tokens here
  EXPECT_EQ(a.out, b.out);
  EXPECT_NE(a.out, c.out);
}

TEST_F(Train, PlanNeedsNoRanks) {
  const Outcome plan = muonp("plan tiny.yaml --ranks 4 --json");
  EXPECT_EQ(plan.status, 0) << plan.err;
  EXPECT_NE(plan.out.find("\"imbalance\""), std::string::npos);
}

TEST_F(Train, BenchStepCountsItsMemoryAsPlanned) {
  const Outcome bench = muonp("bench step tiny.yaml --json --repeats 2", 2);
  ASSERT_EQ(bench.status, 0) << bench.err;
  const auto number = [&](const std::string& key) {
    const std::size_t at = bench.out.find("\"" + key + "\": ");
    EXPECT_NE(at, std::string::npos) << key << "\n" << bench.out;
    return std::stod(bench.out.substr(at + key.size() + 4));
  };
  EXPECT_NEAR(number("peak_bytes"), number("planned_peak_bytes"), 0.1 * number("planned_peak_bytes"));
  EXPECT_GT(number("tokens_per_second"), 0);
  double sum = 0;
  for (const char* part : {"forward", "backward", "communication", "spectral", "other"}) {
    const double seconds = number(std::string(part) + "_seconds");
    EXPECT_GE(seconds, 0) << part;
    sum += seconds;
  }
  EXPECT_NEAR(sum, number("seconds_median"), 1e-9);
}

TEST_F(Train, BenchStepMeasuresMoreStepsThanTheRunHas) {
  for (const int steps : {0, 2}) {
    const Outcome bench =
        muonp(fmt::format("bench step tiny.yaml --repeats 3 --set run.steps={} --set schedule.warmup=0", steps));
    EXPECT_EQ(bench.status, 0) << bench.err;
  }
}

}  // namespace muonp::e2e
