// Least squares on a 6 × 4 matrix, with gradients that this program computes itself, on four ranks that are threads.
#include <core/device/device.h>
#include <dist/comm/thread.h>
#include <optim/engine/distributed_optimizer.h>
#include <optim/rules/muonp.h>

#include <cmath>
#include <cstdio>

using namespace muonp;

int main() {
  double first = 0, last = 0;
  dist::run_ranks(4, [&](dist::Communicator& communicator) {
    const auto device = core::make_cpu_device(1);
    core::Parameter weight{"weight", {6, 4}, core::ParameterKind::matrix, {core::Initializer::Kind::normal, 0.5}, {}, {}};
    optim::OptimizerConfig config;
    config.matrices.rule.as<optim::Muonp>().p = "1/2";
    config.matrices.lr = 0.5;
    config.matrices.weight_decay = 0;
    optim::DistributedOptimizer optimizer(*device, {&weight}, config, {.zero = 1}, communicator);
    optimizer.initialize(1);
    for (int step = 0; step < 200; ++step) {
      optimizer.begin_pass(true, true);
      const core::GradientSlot slot = optimizer.gradients().slot(weight);
      double loss = 0;
      for (std::int64_t i = 0; i < weight.size(); ++i) {
        const float error = weight.value.data<float>()[i] - static_cast<float>(i % 5);
        slot.gradient.data<float>()[i] = error;
        loss += 0.5 * error * error;
      }
      optimizer.gradients().complete(weight);
      optimizer.step(1.0 - step / 200.0);
      if (communicator.rank() == 0) (step == 0 ? first : last) = loss;
    }
  });
  std::printf("loss %.4f to %.4f\n", first, last);
  return last < 0.01 * first ? 0 : 1;
}
