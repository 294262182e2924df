// What every rule has to keep, at every world size and ZeRO stage, offloaded, compressed where that is allowed, saved at
// four ranks and resumed at two: the weights of a replay in double precision. Every rule of the table is here, and one that
// is not in it, as another trainer may bring it: all that it takes is in this file.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <mutex>

#include "core/device/host_view.h"
#include "optim/rules/muon_mvr.h"
#include "optim/rules/muonp.h"
#include "optim/rules/sgd.h"
#include "optim/rules/soap.h"
#include "tests/optim/engine/small_model.h"
#include "tests/reference/adaptive.h"
#include "tests/reference/table.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;
using reference::Doubles;

namespace {

// ---- a rule of its own: sign descent, each row damped by the squares that it has seen, all by the gradient's norm ----
//
//   N = g;  r_i <- r_i + mean over row i of N^2;  u_ij = sign(N_ij) / ((1 + r_i) (1 + |G|))

class DampedSignStep final : public MatrixStep {
 public:
  void compute(core::Device& device, std::int64_t, std::span<const MatrixInput> inputs) override {
    for (const MatrixInput& input : inputs) one(device.queue(), input);
  }
  double cost(std::string_view, const core::Shape& shape, const Split*) const override {
    return static_cast<double>(core::element_count(shape));
  }
  core::Dtype product_dtype() const override { return core::Dtype::float32; }
  std::int64_t workspace_bytes(std::span<const MatrixInput>) const override { return 0; }

 private:
  static void one(core::Queue& queue, const MatrixInput& input) {
    const core::HostView in(queue, input.in, core::Access::read), out(queue, input.out, core::Access::write),
        seen(queue, input.states[0], core::Access::read_write);
    const std::int64_t rows = input.states[0].size(), cols = input.in.size() / rows;
    for (std::int64_t i = 0; i < rows; ++i) {
      const float* n = in.data<float>() + i * cols;
      double squares = 0;
      for (std::int64_t j = 0; j < cols; ++j) squares += double{n[j]} * n[j];
      float& r = seen.data<float>()[i];
      r += static_cast<float>(squares / static_cast<double>(cols));
      for (std::int64_t j = 0; j < cols; ++j)
        out.data<float>()[i * cols + j] = static_cast<float>((n[j] > 0   ? 1
                                                              : n[j] < 0 ? -1
                                                                         : 0) /
                                                             ((1 + double{r}) * (1 + input.facts.gradient_norm)));
    }
    out.upload();
    seen.upload();
  }
};

class DampedSign final : public Rule {
 public:
  std::unique_ptr<Rule> clone() const override { return std::make_unique<DampedSign>(*this); }
  std::string_view name() const override { return "damped_sign"; }
  std::string_view source() const override { return "this test"; }
  std::string_view published_lr() const override { return "none"; }
  void describe(core::Fields&) override {}
  void validate(const std::string&) const override {}
  std::vector<StateSpec> states() const override { return {{"row_squares", Form::rows, Home::owner}}; }
  Needs needs() const override { return {.whole_matrices = true, .gradient_norm = true}; }
  Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                      std::span<const core::Tensor>) const override {
    const core::HostView g(queue, gradient.values, core::Access::read_write);
    for (std::int64_t i = 0; i < gradient.values.size(); ++i)
      g.data<float>()[i] = static_cast<float>(facts.gradient_scale * double{g.data<float>()[i]});
    g.upload();
    return {gradient.values};
  }
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind) const override { return std::make_unique<DampedSignStep>(); }
};

void damped_sign(reference::Parameter& p, const Doubles& g, const reference::Step& s) {
  Doubles& r = p.state("row_squares", static_cast<std::size_t>(p.rows));
  Doubles u(g.size());
  for (std::int64_t i = 0; i < p.rows; ++i) {
    double squares = 0;
    for (std::int64_t j = 0; j < p.cols; ++j) squares += g[i * p.cols + j] * g[i * p.cols + j];
    r[i] += squares / static_cast<double>(p.cols);
    for (std::int64_t j = 0; j < p.cols; ++j) {
      const double n = g[i * p.cols + j];
      u[i * p.cols + j] = (n > 0 ? 1 : n < 0 ? -1 : 0) / ((1 + r[i]) * (1 + s.norm));
    }
  }
  reference::apply(p, u, s);
}

// ---- the replay ----

struct Case {
  std::string name;
  AnyRule rule;
  std::function<void(reference::Parameter&, const Doubles& g, const reference::Step&)> replay;  // one step
};

// By a decomposition: the recurrences' own error is another test's.
AnyRule exact(AnyRule rule) {
  if (auto* keys = dynamic_cast<SpectralKeys*>(&*rule)) {
    keys->method = "svd";
    keys->dtype = "float32";
  }
  if (auto* soap = dynamic_cast<Soap*>(&*rule)) soap->one_sided = true;
  return rule;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const reference::Reference& of : reference::kReferences)
    all.push_back({std::string(of.rule), exact(AnyRule(of.rule)), of.step});
  Muonp muonp;
  muonp.momentum = core::StepValue::parse("0.5@1 0.9@3");
  muonp.p = "1/2@1 0@3";
  all.push_back({"muonp_of_the_step", exact(AnyRule(muonp.clone())), [](auto& p, const auto& g, const auto& s) {
                   const double mu = s.t == 1 ? 0.5 : s.t == 2 ? 0.7 : 0.9;
                   reference::muonp(p, g, s, s.t < 3 ? 0.5 : 0, mu, true, true);
                 }});
  Muonp adaptive;
  adaptive.p = kAdaptive;
  adaptive.p_every = 2;
  adaptive.p_candidates = {"0", "1/4", "1/2", "1"};
  all.push_back({"muonp_adaptive", exact(AnyRule(adaptive.clone())), [](auto& p, const auto& g, const auto& s) {
                   reference::adaptive_muonp(p, g, s, 0.95, {0, 0.25, 0.5, 1}, 2, 0.5, 1);
                 }});
  Sgd sgd;
  sgd.momentum_form = "heavy_ball";
  sgd.nesterov = false;
  sgd.momentum = 0.5;
  all.push_back({"sgd_heavy_ball", AnyRule(sgd.clone()),
                 [](auto& p, const auto& g, const auto& s) { reference::sgd(p, g, s, 0.5, false, false); }});
  AnyRule exact_mvr("muon_mvr");
  exact_mvr.as<MuonMvr>().variant = "exact";
  all.push_back({"muon_mvr_exact", exact(exact_mvr),
                 [](auto& p, const auto& g, const auto& s) { reference::muon_mvr(p, g, s, true); }});
  all.push_back({"damped_sign", AnyRule(std::make_unique<DampedSign>()), damped_sign});
  return all;
}

constexpr int kStepsBefore = 2, kSteps = 4;
constexpr double kLoss = 1.5;
constexpr int kOldSamples = 100;
constexpr double kClip = 3;  // below the norm of a step's gradient, so that it is clipped

OptimizerConfig config_of(const Case& c) {
  OptimizerConfig config = small_config();
  config.clip = kClip;
  config.matrices.rule = c.rule;
  config.matrices.weight_decay = 0.25;
  if (!c.rule->needs().whole_matrices) config.others.rule = c.rule;
  return config.for_run(kSteps);
}

std::map<std::string, Doubles> replay(const Case& c) {
  const OptimizerConfig config = config_of(c);
  SmallModel model;
  std::vector<reference::Parameter> parameters;
  for (const core::Parameter* p : model.list) {
    std::vector<float> w(static_cast<std::size_t>(p->size()));
    if (p->size() > 0) core::initialize(*p, 3, 0, p->size(), w.data());
    const std::int64_t cols = p->shape.back();
    parameters.push_back({cols == 0 ? 0 : p->size() / cols, cols, Doubles(w.begin(), w.end())});
  }
  const auto others = [](reference::Parameter& p, const Doubles& g, const reference::Step& s) {
    reference::adamw(p, g, s, 0.9, 0.95, 1e-8);
  };
  for (int t = 1; t <= kSteps; ++t) {
    std::vector<Doubles> gradients, old;
    double squares = 0;
    for (int p = 0; p < static_cast<int>(model.list.size()); ++p) {
      Doubles& g = gradients.emplace_back(static_cast<std::size_t>(model.list[std::size_t(p)]->size()));
      old.emplace_back(g.size());
      for (std::size_t i = 0; i < g.size(); ++i) {
        for (int s = 0; s < kSamples; ++s) {
          g[i] += double{sample_gradient(p, std::int64_t(i), t - 1, s)} / kSamples;
          old.back()[i] += double{sample_gradient(p, std::int64_t(i), t - 1 + kOldSamples, s)} / kSamples;
        }
        squares += g[i] * g[i];
      }
    }
    EXPECT_GT(std::sqrt(squares), kClip);
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      const double norm = optim::oracle::norm(gradients[p]);
      for (double& x : gradients[p]) x *= kClip / std::sqrt(squares);
      for (double& x : old[p]) x *= kClip / std::sqrt(squares);
      const bool matrix = model.list[p]->kind == core::ParameterKind::matrix;
      const GroupConfig& group = matrix ? config.matrices : config.others;
      if (parameters[p].w.empty()) continue;
      const reference::Step step{t, group.lr.at(t), group.weight_decay.at(t), norm, kLoss, old[p]};
      if (matrix || !c.rule->needs().whole_matrices)
        c.replay(parameters[p], gradients[p], step);
      else
        others(parameters[p], gradients[p], step);
    }
  }
  std::map<std::string, Doubles> weights;
  for (std::size_t p = 0; p < parameters.size(); ++p) weights[model.list[p]->name] = parameters[p].w;
  return weights;
}

// A float32 step rounds weights, states and updates to 2^-24 of their size, and sums over samples in another order; a rule
// passes differences on at most a hundredfold (the spectral power's slope where singular values are small).
void expect_replayed(const std::map<std::string, std::vector<float>>& got, const std::map<std::string, Doubles>& wanted) {
  constexpr double kTolerance = 100 * kSteps * 16 * 0x1p-24;
  for (const auto& [name, values] : wanted)
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(got.at(name)[i], values[i], kTolerance * (1 + std::fabs(values[i]))) << name << " " << i;
}

ParallelOptions options_of(int zero, bool offload) {
  ParallelOptions options;
  options.zero = zero;
  options.bucket_elements = 100;
  options.wave_elements = 80;
  options.offload = offload;
  return options;
}

void advance(SmallModel& model, DistributedOptimizer& optimizer, dist::Communicator& c, int from, int to) {
  for (int step = from; step < to; ++step) {
    if (optimizer.needs_old_gradients()) {  // made-up gradients do not look at weights: those of other samples will do
      optimizer.hold_old_weights();
      backward(model, optimizer, c.rank(), c.size(), 1, step + kOldSamples);
      optimizer.keep_old_gradients();
    }
    backward(model, optimizer, c.rank(), c.size(), 1, step);
    ASSERT_FALSE(optimizer.step(1, {.loss = kLoss}).skipped);
    optimizer.require_equal_weights();
  }
}

class RuleConformance : public testing::TestWithParam<std::size_t> {
 protected:
  const Case c = cases()[GetParam()];
  const std::map<std::string, Doubles> wanted = replay(c);
  const OptimizerConfig config = config_of(c);
};

}  // namespace

TEST_P(RuleConformance, MovesWeightsAsTheReplayAtEveryWorldSizeAndStage) {
  for (const int ranks : {1, 2, 3, 4})
    for (const int zero : {0, 1, 2, 3})
      for (const bool offload : on_gpu() ? std::vector<bool>{false, true} : std::vector<bool>{false})
        run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
          SCOPED_TRACE(fmt::format("{} ranks, stage {}, offload {}", ranks, zero, offload));
          SmallModel model;
          DistributedOptimizer optimizer(device, model.list, config, options_of(zero, offload), communicator);
          optimizer.initialize(3);
          advance(model, optimizer, communicator, 0, kSteps);
          expect_replayed(named_weights(model, optimizer), wanted);
        });
}

TEST_P(RuleConformance, PlansTheMemoryAndTheCheckpointOfItsStates) {
  for (const int zero : {0, 3})
    run_on_devices(3, [&](dist::Communicator& communicator, core::Device& device) {
      SmallModel model;
      DistributedOptimizer optimizer(device, model.list, config, options_of(zero, false), communicator);
      std::int64_t saved = 0;
      for (const StateTensor& t : optimizer.state_to_save()) saved += t.data.bytes();
      EXPECT_EQ(saved, optimizer.plan().snapshot_bytes(communicator.rank()));
      EXPECT_EQ(device.allocator()->use().of(core::Category::optimizer),
                optimizer.plan().bytes(communicator.rank()).optimizer);
    });
}

TEST_P(RuleConformance, GoesOnAtTwoRanksFromWhatFourSaved) {
  std::mutex mutex;
  std::map<std::string, std::vector<float>> stored;
  run_on_devices(4, [&](dist::Communicator& communicator, core::Device& device) {
    SmallModel model;
    DistributedOptimizer optimizer(device, model.list, config, options_of(1, false), communicator);
    optimizer.initialize(3);
    advance(model, optimizer, communicator, 0, kStepsBefore);
    const std::lock_guard lock(mutex);
    for (const StateTensor& t : optimizer.state_to_save()) {
      std::vector<float>& whole = stored[t.name];
      whole.resize(static_cast<std::size_t>(core::element_count(t.shape)), NAN);
      std::ranges::copy(values_of(t.data), whole.begin() + t.interval.begin);
    }
  });
  for (const auto& [name, values] : stored)
    for (const float v : values) ASSERT_FALSE(std::isnan(v)) << name << " has elements that no rank saved";
  for (const int zero : {0, 1, 2, 3})
    run_on_devices(2, [&](dist::Communicator& communicator, core::Device& device) {
      SmallModel model;
      DistributedOptimizer optimizer(device, model.list, config, options_of(zero, false), communicator);
      optimizer.load_state(kStepsBefore, [&](const StateTensor& t) {
        const auto begin = stored.at(t.name).begin() + t.interval.begin;
        set_values(t.data, std::vector<float>(begin, begin + t.data.size()));
      });
      advance(model, optimizer, communicator, kStepsBefore, kSteps);
      expect_replayed(named_weights(model, optimizer), wanted);
    });
}

// Error feedback that leaves nothing out moves as nothing were compressed; with a norm that nobody has it is refused.
TEST_P(RuleConformance, IsCompressedOrRefusedWithTheReason) {
  ParallelOptions options = options_of(1, false);
  options.compression = parse_compression("identity", "identity", "none");
  const Needs needs = c.rule->needs();
  const std::string_view reason = needs.gradient_norm || needs.mean_gradient ? "the mean is never there"
                                  : needs.old_gradient                       ? "of weights that nobody has whole"
                                                                             : "";
  run_on_devices(2, [&](dist::Communicator& communicator, core::Device& device) {
    SmallModel model;
    try {
      OptimizerConfig without_clip = config;  // the norm of unsummed gradients is not the mean's
      DistributedOptimizer optimizer(device, model.list, without_clip, options, communicator);
      EXPECT_TRUE(reason.empty() || !needs.whole_matrices);
    } catch (const core::Error& error) {
      EXPECT_NE(reason, "") << error.what();
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  });
}

// Weights become the averages that the state has, and are bit for bit what they were again.
TEST(EvaluatedAverages, TakeThePlaceOfWeightsForAWhile) {
  OptimizerConfig config = small_config();
  config.matrices.rule = config.others.rule = "schedule_free";
  for (const int ranks : {1, 2, 3})
    for (const int zero : {0, 1, 3}) {
      std::mutex mutex;
      std::map<std::string, std::vector<float>> averages, held;
      run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
        SmallModel model;
        DistributedOptimizer optimizer(device, model.list, config, options_of(zero, false), communicator);
        optimizer.initialize(3);
        const auto first = named_weights(model, optimizer);
        optimizer.hold_averages();
        EXPECT_EQ(named_weights(model, optimizer), first) << "the average begins as the weights";
        optimizer.release_averages();
        advance(model, optimizer, communicator, 0, 2);
        const auto before = named_weights(model, optimizer);
        optimizer.hold_averages();
        const auto during = named_weights(model, optimizer);
        optimizer.release_averages();
        EXPECT_EQ(named_weights(model, optimizer), before);
        const std::lock_guard lock(mutex);
        held = during;
        for (const StateTensor& t : optimizer.state_to_save()) {
          if (!t.name.ends_with("/average")) continue;
          std::vector<float>& whole = averages[t.name.substr(0, t.name.rfind('/'))];
          whole.resize(static_cast<std::size_t>(core::element_count(t.shape)), NAN);
          std::ranges::copy(values_of(t.data), whole.begin() + t.interval.begin);
        }
      });
      EXPECT_GT(averages.size(), 4u);
      for (const auto& [name, values] : averages) EXPECT_EQ(held.at(name), values) << name << ", " << ranks << ", " << zero;
    }
}

INSTANTIATE_TEST_SUITE_P(Rules, RuleConformance, testing::Range<std::size_t>(0, cases().size()),
                         [](const auto& of) { return cases()[of.param].name; });

TEST(RuleConformanceCases, HaveEveryRuleOfTheTable) {
  for (const std::string_view name : rule_names())
    EXPECT_TRUE(std::ranges::any_of(cases(), [&](const Case& c) { return c.name == name; })) << name;
}
