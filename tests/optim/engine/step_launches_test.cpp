// What the stand-in for GPUs can count of a whole optimizer step: operations given to the GPU, and waits of the host.
#include <gtest/gtest.h>

#include "cuda_host.h"
#include "dist/comm/local.h"
#include "tests/optim/engine/small_model.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;

namespace {

// The parameters of GPT-2 124M, twelve layers of 48 matrices in all, with a width of 8 for 768.
void make_gpt2(SmallModel& model) {
  using core::ParameterKind;
  model.parameters.clear();
  model.list.clear();
  const auto add = [&](const std::string& name, core::Shape shape, ParameterKind kind) {
    model.parameters.push_back({name, std::move(shape), kind, {core::Initializer::Kind::normal, 0.5}, {}, {}});
  };
  const auto linear = [&](const std::string& name, std::int64_t outputs, std::int64_t inputs) {
    add(name + ".weight", {outputs, inputs}, ParameterKind::matrix);
    add(name + ".bias", {outputs}, ParameterKind::vector);
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {8}, ParameterKind::vector);
    add(name + ".bias", {8}, ParameterKind::vector);
  };
  add("wte.weight", {64, 8}, ParameterKind::embedding);
  add("wpe.weight", {16, 8}, ParameterKind::embedding);
  for (int i = 0; i < 12; ++i) {
    const std::string block = "h." + std::to_string(i) + ".";
    norm(block + "ln_1");
    linear(block + "attn.c_attn", 24, 8);
    linear(block + "attn.c_proj", 8, 8);
    norm(block + "ln_2");
    linear(block + "mlp.c_fc", 32, 8);
    linear(block + "mlp.c_proj", 8, 32);
  }
  norm("ln_f");
  for (core::Parameter& p : model.parameters) model.list.push_back(&p);
}

struct Case {
  const char *rule, *dtype;
  std::size_t most_operations = 800;
};
class StepLaunches : public ::testing::TestWithParam<Case> {};

}  // namespace

TEST_P(StepLaunches, AStepOfGpt2TakesFewLaunchesAndWaits) {
  const auto device = test::make_test_device(1);
  ASSERT_EQ(device->kind(), core::DeviceKind::cuda);
  SmallModel model;
  make_gpt2(model);
  OptimizerConfig config = small_config();
  config.matrices.rule = GetParam().rule;
  config.matrices.rule.as<SpectralKeys>().dtype = GetParam().dtype;
  config.matrices.splits = {{.name = "qkv", .pattern = "*.c_attn.weight", .parts = {"q", "k", "v"}}};
  const auto communicator = dist::make_local(device.get());
  DistributedOptimizer optimizer(*device, model.list, config,
                                 {.zero = 1, .bucket_elements = 1 << 20, .wave_elements = 1 << 20}, *communicator);
  optimizer.initialize(1);
  for (int step = 0; step < 2; ++step) {
    backward(model, optimizer, 0, 1, 1, step);
    const std::size_t operations = cuda_host::operations(), waits = cuda_host::waits();
    EXPECT_FALSE(optimizer.step(1).skipped);
    if (step == 0) continue;  // the first makes what later ones keep
    const std::size_t taken = cuda_host::operations() - operations;
    RecordProperty("operations", static_cast<int>(taken));
    EXPECT_LE(taken, GetParam().most_operations);
    EXPECT_LE(cuda_host::waits() - waits, 4u);
  }
}

INSTANTIATE_TEST_SUITE_P(OfRule, StepLaunches,
                         ::testing::Values(Case{"muonp", "float16"}, Case{"muonp", "float32"}, Case{"muon", "float16"},
                                           Case{"muon_mvr", "float16", 1000}, Case{"normuon", "float16"}),
                         [](const auto& test) { return fmt::format("{}_{}", test.param.rule, test.param.dtype); });
