// Hyper-parameters that are functions of the step, and exponents that are chosen, through the distributed optimizer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>

#include "core/device/host_view.h"
#include "tests/optim/engine/small_model.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;
using testing::HasSubstr;

namespace {

constexpr int kSteps = 8;

OptimizerConfig scheduled() {
  OptimizerConfig config = small_config();
  Muonp& muonp = config.matrices.rule.as<Muonp>();
  muonp.p = "logistic 1/2 -1/4 tau 0.4 width 0.1";
  muonp.momentum = core::StepValue::parse("cosine 0.5@1 0.9@6");
  config.matrices.lr = core::StepValue::parse("linear 0.02@1 0.01@8");
  config.matrices.weight_decay = core::StepValue::parse("switch 0.1@1 0.3@4");
  config.others.lr = core::StepValue::parse("logistic 0.01 0.001 tau 0.5 width 0.2");
  return config.for_run(kSteps);
}

OptimizerConfig adaptive() {
  OptimizerConfig config = small_config();
  Muonp& muonp = config.matrices.rule.as<Muonp>();
  muonp.p = kAdaptive;
  muonp.p_every = 3;
  muonp.p_candidates = {"0", "1/4", "1/2", "3/4", "1"};
  return config;
}

ParallelOptions options_of(int zero, bool compressed = false) {
  ParallelOptions options;
  options.zero = zero;
  options.bucket_elements = 100;
  options.wave_elements = 80;
  if (compressed) options.compression = parse_compression("top_k 0.3", "natural", "int8");
  return options;
}

// A signal of two directions in noise, of which each matrix has another share.
float signal_in_noise(int parameter, std::int64_t i, std::int64_t step, int sample) {
  constexpr std::int64_t kColumns[] = {6, 6, 1, 12, 5, 7, 3};
  constexpr float kNoise[] = {1, 0.02f, 1, 0.3f, 1, 3, 1};
  const auto row = static_cast<float>(i / kColumns[parameter]), column = static_cast<float>(i % kColumns[parameter]);
  const float signal = std::cos(row) * std::sin(column + 1) + 0.4f * std::sin(2 * row) * std::cos(3 * column);
  return signal + kNoise[parameter] * sample_gradient(parameter, i, step, sample);
}

std::vector<StepReport> advance(SmallModel& model, DistributedOptimizer& optimizer, dist::Communicator& c, int from,
                                int to) {
  std::vector<StepReport> reports;
  for (int step = from; step < to; ++step) {
    backward(model, optimizer, c.rank(), c.size(), 1, step, signal_in_noise);
    reports.push_back(optimizer.step(1));
  }
  return reports;
}

using Weights = std::map<std::string, std::vector<float>>;

}  // namespace

TEST(Schedules, WhatGoesOnInTheMiddleIsTheUninterruptedRunBitForBit) {
  for (const OptimizerConfig& config : {scheduled(), adaptive()})
    for (const auto& [ranks, zero, compressed] : {std::tuple(1, 1, false), {3, 0, false}, {2, 3, false}, {2, 1, true}}) {
      std::mutex mutex;
      std::vector<std::map<std::string, std::vector<float>>> values(static_cast<std::size_t>(ranks));
      std::vector<Weights> whole(static_cast<std::size_t>(ranks));
      constexpr int kCut = 3;
      run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
        SmallModel model;
        DistributedOptimizer optimizer(device, model.list, config, options_of(zero, compressed), c);
        optimizer.initialize(3);
        advance(model, optimizer, c, 0, kCut);
        std::map<std::string, std::vector<float>> mine;
        for (const StateTensor& t : optimizer.state_to_save())
          mine[fmt::format("{}@{}", t.name, t.interval.begin)] = values_of(t.data);
        advance(model, optimizer, c, kCut, kSteps);
        const Weights weights = named_weights(model, optimizer);  // collective
        const std::lock_guard lock(mutex);
        values[static_cast<std::size_t>(c.rank())] = mine;
        whole[static_cast<std::size_t>(c.rank())] = weights;
      });
      const auto stored = [&](const StateTensor& t, std::int64_t i) {
        for (const auto& of_rank : values)
          for (const auto& [name, piece] : of_rank) {
            const std::size_t mark = name.rfind('@');
            const std::int64_t begin = std::stoll(name.substr(mark + 1));
            if (name.substr(0, mark) == t.name && i >= begin && i < begin + std::ssize(piece))
              return piece[static_cast<std::size_t>(i - begin)];
          }
        ADD_FAILURE() << t.name << " was not saved";
        return 0.0f;
      };
      run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
        SmallModel model;
        DistributedOptimizer optimizer(device, model.list, config, options_of(zero, compressed), c);
        optimizer.load_state(kCut, [&](const StateTensor& t) {
          std::vector<float> data;
          for (std::int64_t i = t.interval.begin; i < t.interval.end; ++i) data.push_back(stored(t, i));
          set_values(t.data, data);
        });
        advance(model, optimizer, c, kCut, kSteps);
        EXPECT_EQ(named_weights(model, optimizer), whole[static_cast<std::size_t>(c.rank())])
            << ranks << " ranks, stage " << zero << ", compressed " << compressed;
      });
    }
}

TEST(Schedules, AllRanksAreToldOfTheExponentsThatWereChosenInTheStepsInWhichTheyAre) {
  std::map<std::string, double> alone;
  Weights weights;
  for (const auto& [ranks, zero, compressed] :
       {std::tuple(1, 1, false), {2, 0, false}, {3, 1, false}, {4, 2, false}, {4, 3, false}, {2, 1, true}})
    run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
      SmallModel model;
      DistributedOptimizer optimizer(device, model.list, adaptive(), options_of(zero, compressed), c);
      optimizer.initialize(3);
      const std::vector<StepReport> reports = advance(model, optimizer, c, 0, kSteps);
      for (int step = 1; step <= kSteps; ++step) {
        const std::vector<ShownState>& shown = reports[static_cast<std::size_t>(step - 1)].shown;
        EXPECT_EQ(shown.size(), (step - 1) % 3 == 0 ? 4u : 0u) << step;
        if (compressed) continue;  // of other directions
        for (const ShownState& s : shown) {
          EXPECT_EQ(s.state, "p");
          const std::string key = fmt::format("{} {}", step, s.matrix);
          if (c.size() == 1) alone[key] = s.value;
          EXPECT_EQ(s.value, alone.at(key)) << key << " of " << c.size() << " ranks";
        }
      }
      const Weights mine = named_weights(model, optimizer);
      if (c.size() == 1) weights = mine;
      for (const auto& [name, values] : mine)
        for (std::size_t i = 0; i < values.size() && !compressed; ++i)
          ASSERT_NEAR(values[i], weights.at(name)[i], 1e-4) << name << " " << i << " of " << c.size() << " ranks";
    });
  EXPECT_EQ(alone.size(), 12u);
  EXPECT_TRUE(std::ranges::any_of(alone, [&](const auto& a) { return a.second != alone.begin()->second; }));
}

TEST(Schedules, WhatIsRelativeToTheRunNeedsItsLength) {
  OptimizerConfig config = small_config();
  config.matrices.rule.as<Muonp>().p = "logistic 1/2 0 tau 0.5 width 0.1";
  GroupConfig group;
  group.name = "a";
  group.select = {"a.*"};
  group.lr = core::StepValue::parse("logistic 1 0 tau 0.5 width 0.1");
  config.groups.push_back(group);
  SmallModel model;
  try {
    make_execution_plan(model.list, config, options_of(1), 2);
    ADD_FAILURE() << "it was planned";
  } catch (const core::Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("optimizer.matrices.p: it is relative to the run"),
                                             HasSubstr("optimizer.groups.0.lr: it is relative to the run")));
  }
  const ExecutionPlan plan = make_execution_plan(model.list, config.for_run(100), options_of(1), 2);
  EXPECT_EQ(plan.groups.groups().size(), 3u);
}
