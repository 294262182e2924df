// What a step multiplies weights by: the same bits at every stage and world size, of masters, of what is compressed, and of
// averages.
#include "optim/engine/weight_scales.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "tests/optim/engine/small_model.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;
using core::Dtype;

namespace {

struct Scaling {
  int ranks = 1, zero = 1;
  bool scaled = true, averages = false;
  std::string compressor = "none";
  Dtype dtype = Dtype::float32;
  OptimizerConfig config = small_config();
  int steps = 1;
};

// Rows 3 to 7 and row 9 of a.weight, two elements of its bias, a part of b.weight.
WeightScales scales_of(const SmallModel& model) {
  return {
      {model.list[1], 18, 48, 0.3}, {model.list[1], 54, 60, 0.7}, {model.list[2], 3, 5, 0.9}, {model.list[3], 7, 41, 0.5}};
}

std::vector<float> weights_after(const Scaling& run) {
  std::vector<float> result;
  std::mutex mutex;
  run_on_devices(run.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    SmallModel model;
    const ParallelOptions options{
        .zero = run.zero,
        .bucket_elements = 100,
        .wave_elements = 80,
        .weight_dtype = run.dtype,
        .compression = parse_compression(run.compressor, run.compressor, run.compressor == "none" ? "none" : "int8")};
    DistributedOptimizer optimizer(device, model.list, run.config, options, communicator);
    optimizer.initialize(3);
    for (std::int64_t step = 0; step < run.steps; ++step) {
      backward(model, optimizer, communicator.rank(), run.ranks, 1, step);
      optimizer.step(1.0, {.scales = run.scaled ? scales_of(model) : WeightScales{}});
      optimizer.require_equal_weights();
    }
    if (run.averages) optimizer.hold_averages();
    std::vector<float> weights = weights_of(model, optimizer);
    if (run.averages) optimizer.release_averages();
    if (communicator.rank() > 0) return;
    const std::lock_guard lock(mutex);
    result = std::move(weights);
  });
  return result;
}

// Parameters one after the other.
std::vector<float> scaled(std::vector<float> weights) {
  SmallModel model;
  std::int64_t begin = 0;
  for (const core::Parameter* p : model.list) {
    for (const core::ScaledElements& s : scales_of(model))
      for (std::int64_t i = s.begin; s.parameter == p && i < s.end; ++i)
        weights[core::at(begin + i)] *= static_cast<float>(s.factor);
    begin += p->size();
  }
  return weights;
}

Scaling unscaled(Scaling run) {
  run.scaled = false;
  return run;
}

}  // namespace

TEST(WeightScales, AreOfTheUpdatedWeightsAtEveryStageAndWorldSize) {
  for (int ranks : {1, 2, 3, 4})
    for (int zero : {0, 1, 2, 3}) {
      const Scaling run{.ranks = ranks, .zero = zero};
      EXPECT_EQ(weights_after(run), scaled(weights_after(unscaled(run)))) << ranks << " ranks, stage " << zero;
    }
}

// Masters are scaled, and what the forward pass reads is made from them.
TEST(WeightScales, AreOfTheMastersOfBfloat16) {
  if (on_gpu()) GTEST_SKIP() << "the CPU's emulation is enough";
  std::vector<float> expected;
  for (int zero : {0, 1, 3}) {
    Scaling run{.ranks = 2, .zero = zero, .dtype = Dtype::bfloat16};
    const std::vector<float> got = weights_after(run), plain = scaled(weights_after(unscaled(run)));
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], plain[i], 0x1p-7 * std::abs(plain[i])) << i;
    EXPECT_NE(got, weights_after(unscaled(run)));
    if (zero > 0) {
      EXPECT_EQ(got, expected);
    }
    expected = got;
  }
}

// W on every rank and X on its owner: after the step W is scaled, and the next steps stay together.
TEST(WeightScales, AreOfWeightsThatAreSentCompressed) {
  for (const char* compressor : {"top_k 0.2", "int8", "rank 2"})
    for (int ranks : {1, 3})
      for (int zero : {0, 1}) {
        const Scaling run{.ranks = ranks, .zero = zero, .compressor = compressor};
        EXPECT_EQ(weights_after(run), scaled(weights_after(unscaled(run)))) << compressor << ", " << ranks << " ranks";
      }
  // Where all is sent, X is W after each of several scaled steps.
  Scaling whole{.ranks = 2, .compressor = "identity", .steps = 3}, exact{.ranks = 2, .steps = 3};
  const std::vector<float> got = weights_after(whole), expected = weights_after(exact);
  SmallModel model;
  const auto begin = model.list[0]->size(), end = begin + model.list[1]->size();
  for (std::int64_t i = begin; i < end; ++i)
    EXPECT_NEAR(got[core::at(i)], expected[core::at(i)], 1e-4 * (1 + std::abs(expected[core::at(i)]))) << i;
}

// Schedule-Free evaluates an average of iterates: it moves with the weights, or the next step would undo the clip.
TEST(WeightScales, AreOfAnAverageToo) {
  for (const bool averages : {false, true}) {
    Scaling run{.ranks = 2, .averages = averages};
    run.config.matrices.rule = AnyRule("schedule_free");
    run.config.others.rule = AnyRule("schedule_free");
    EXPECT_EQ(weights_after(run), scaled(weights_after(unscaled(run))));
  }
}

TEST(WeightScales, RefusesAParameterThatIsNotTrained) {
  SmallModel model, other;
  EXPECT_THROW(scales_by_parameter(model.list, {{other.list[0], 0, 1, 0.5}}), core::InternalError);
  EXPECT_EQ(scales_by_parameter(model.list, scales_of(model))[1].size(), 2u);
}
