#include "launch/bench/roofline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muonp::launch {
namespace {

// A machine on which every rate is a round number.
const Machine kRound{"round", 1e9, 1e9, 2e9, 1e6, 1e6, 1e5, 2};

struct Planned {
  RunConfig config;
  std::unique_ptr<models::LanguageModel> model;
  std::unique_ptr<optim::ExecutionPlan> plan;
  BatchPlan batches;

  Planned(int ranks, int zero) {
    config.model.gpt.layers = 2;
    config.model.gpt.heads = 2;
    config.model.gpt.width = 32;
    config.model.gpt.context = 16;
    config.model.gpt.vocabulary = 64;
    config.model = config.model.resolved();
    config.data.sequence = 16;
    config.data.batch = 4 * ranks;
    config.parallel.zero = zero;
    model = models::make_model(config.model);
    batches = make_batch_plan(config.data, ranks);
    plan = std::make_unique<optim::ExecutionPlan>(optim::make_execution_plan(
        model->parameters(), config.optimizer, parallel_options(config, *model, core::DeviceKind::cuda), ranks));
  }
  Roofline on(const Machine& machine) const { return roofline({config, *model, *plan, batches, "", "", "", 0}, machine); }
};

const Phase& phase(const Roofline& r, const std::string& name) {
  for (const Phase& p : r.phases)
    if (p.name == name) return p;
  throw std::runtime_error("no phase " + name);
}

TEST(Roofline, SumsAreThePlans) {
  for (const int zero : {0, 1, 2, 3})
    for (const int ranks : {1, 2, 4}) {
      const Planned planned(ranks, zero);
      const Roofline r = planned.on(kRound);
      double sent = 0;
      for (const Phase& p : r.phases) sent += p.sent;
      EXPECT_NEAR(sent, planned.plan->bytes_sent_per_step(), 1e-3 * sent + 1e-9 + 8.0 * 64 * ranks)
          << "zero " << zero << ", " << ranks << " ranks";
      const double flops = phase(r, "forward").flops + phase(r, "backward").flops;
      EXPECT_DOUBLE_EQ(flops, planned.model->step_flops(4, 16));
    }
}

TEST(Roofline, APhaseTakesItsSlowestPart) {
  const Roofline r = Planned(2, 1).on(kRound);
  const Phase& forward = phase(r, "forward");
  EXPECT_DOUBLE_EQ(forward.seconds, std::max(forward.flops / 1e9, forward.memory / 1e6));
  const Phase& reduce = phase(r, "reduce-scatter of gradients");
  EXPECT_DOUBLE_EQ(reduce.seconds, reduce.sent / 1e6);
  EXPECT_EQ(reduce.bound, "links");
}

TEST(Roofline, OtherNodesAreReachedThroughTheNetwork) {
  const Roofline r = Planned(4, 1).on(kRound);
  const Phase& gather = phase(r, "gather of momentum");
  EXPECT_EQ(gather.bound, "network");
  EXPECT_DOUBLE_EQ(gather.seconds, gather.sent * (2.0 / 3) / 1e5);  // 2 of 3 others are on another node
}

TEST(Roofline, HiddenPhasesCountOnlyWhereTheyAreLonger) {
  const Roofline r = Planned(2, 1).on(kRound);
  const double backward = std::max(phase(r, "backward").seconds, phase(r, "reduce-scatter of gradients").seconds);
  const double forward = std::max(phase(r, "forward").seconds, phase(r, "all-gather of weights").seconds);
  const double spectral = std::max(phase(r, "spectral recurrence").seconds,
                                   phase(r, "gather of momentum").seconds + phase(r, "scatter of updates").seconds);
  EXPECT_DOUBLE_EQ(
      r.seconds, forward + backward + spectral + phase(r, "momentum and AdamW").seconds + phase(r, "weight update").seconds);
  EXPECT_GE(r.seconds_in_line, r.seconds);
}

TEST(Roofline, Stage3GathersAgainBehindBackward) {
  const Planned planned(2, 3);
  const Roofline r = planned.on(kRound);
  const Phase &once = phase(r, "all-gather of weights"), &again = phase(r, "all-gather of weights again");
  EXPECT_EQ(once.behind, "forward");
  EXPECT_EQ(again.behind, "backward");
  // Backward needs no look-ups; what was held at the turn is not gathered again.
  EXPECT_GT(again.sent, 0);
  EXPECT_LT(again.sent, once.sent);
}

TEST(Roofline, AnUnknownMachineListsTheKnown) {
  EXPECT_THAT([] { machine_of("h1000"); }, testing::ThrowsMessage<core::Error>(testing::HasSubstr("valid are h100, a100")));
}

}  // namespace
}  // namespace muonp::launch
