// A model of a few odd matrices with made-up gradients, for optimizers whose ranks are threads (device_ranks.h).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "optim/engine/distributed_optimizer.h"
#include "optim/rules/muonp.h"
#include "tests/support/device_ranks.h"

namespace muonp::test {

constexpr int kSamples = 24;  // of one step; shared out over ranks and passes

struct SmallModel {
  std::vector<core::Parameter> parameters;
  core::ParameterList list;
  SmallModel() {
    using core::ParameterKind;
    const auto add = [this](const char* name, core::Shape shape, ParameterKind kind) {
      parameters.push_back({name, std::move(shape), kind, {core::Initializer::Kind::normal, 0.5}, {}, {}});
    };
    add("embedding", {19, 6}, ParameterKind::embedding);
    add("a.weight", {12, 6}, ParameterKind::matrix);
    add("a.bias", {12}, ParameterKind::vector);
    add("b.weight", {5, 12}, ParameterKind::matrix);
    add("c.weight", {1, 5}, ParameterKind::matrix);
    add("d.weight", {7, 7}, ParameterKind::matrix);
    add("empty", {0, 3}, ParameterKind::matrix);
    for (core::Parameter& p : parameters) list.push_back(&p);
  }
};

inline optim::OptimizerConfig small_config() {
  optim::OptimizerConfig config;
  config.matrices.lr = 0.02;
  config.matrices.rule.as<optim::Muonp>().dtype = "float32";  // on GPUs too
  config.others.lr = 0.01;
  return config;
}

inline float sample_gradient(int parameter, std::int64_t i, std::int64_t step, int sample) {
  return core::normal(7, static_cast<std::uint64_t>(parameter * 1000 + sample), static_cast<std::uint64_t>(step * 4096 + i));
}

using SampleGradient = std::function<float(int parameter, std::int64_t i, std::int64_t step, int sample)>;

// One step's passes as a trainer would run them: weights are acquired forth and back; gradients are the mean over the
// samples of a pass, divided by the passes.
inline void backward(SmallModel& model, optim::DistributedOptimizer& optimizer, int rank, int size, int passes,
                     std::int64_t step, const SampleGradient& gradient = sample_gradient) {
  const int share = kSamples / size / passes;
  for (int pass = 0; pass < passes; ++pass) {
    optimizer.begin_pass(pass == 0, pass == passes - 1);
    for (core::Parameter* p : model.list) optimizer.weights().acquire({{p}});
    for (int p = static_cast<int>(model.list.size()) - 1; p >= 0; --p) {
      core::Parameter& parameter = *model.list[std::size_t(p)];
      optimizer.weights().acquire({{&parameter}});
      const core::GradientSlot slot = optimizer.gradients().slot(parameter);
      const core::HostView host(test_queue(), slot.gradient, slot.add ? core::Access::read_write : core::Access::write);
      float* g = host.data<float>();
      for (std::int64_t i = 0; i < parameter.size(); ++i) {
        double sum = 0;
        for (int s = 0; s < share; ++s) sum += gradient(p, i, step, (rank * passes + pass) * share + s);
        g[i] = (slot.add ? g[i] : 0) + static_cast<float>(sum / share / passes);
      }
      host.upload();
      optimizer.gradients().complete(parameter);
    }
  }
}

// As a forward pass sees them; collective.
inline std::map<std::string, std::vector<float>> named_weights(SmallModel& model, optim::DistributedOptimizer& optimizer) {
  std::map<std::string, std::vector<float>> all;
  optimizer.begin_evaluation();
  for (core::Parameter* p : model.list) {
    optimizer.weights().acquire({{p}});
    all[p->name] = floats_of(p->value);
  }
  optimizer.wait_for_weights();
  return all;
}

inline std::vector<float> weights_of(SmallModel& model, optim::DistributedOptimizer& optimizer) {
  const auto named = named_weights(model, optimizer);
  std::vector<float> all;
  for (const core::Parameter* p : model.list) all.insert(all.end(), named.at(p->name).begin(), named.at(p->name).end());
  return all;
}

}  // namespace muonp::test
