// Five steps of every rule on a fixed network of two layers, beside the references in double precision. The gradients are
// those at the weights that each of the two has come to, so that a difference would grow from step to step.
#include <gtest/gtest.h>

#include "core/base/rng.h"
#include "core/device/host_view.h"
#include "optim/engine/distributed_optimizer.h"
#include "optim/rules/auon.h"
#include "optim/rules/muon.h"
#include "optim/rules/muon_mvr.h"
#include "optim/rules/soap.h"
#include "optim/rules/specmuon.h"
#include "optim/rules/spectral_keys.h"
#include "tests/reference/table.h"
#include "tests/support/device_ranks.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;
using reference::Doubles;

namespace {

constexpr std::int64_t kExamples = 32;
constexpr int kSteps = 5;
constexpr double kRate = 0.02, kDecay = 0.1;

// f = 1/(2 · examples) · ‖W2 tanh(W1 X) − Y‖²
struct Network {
  std::int64_t in = 6, hidden = 12, out = 8;
  Doubles x = optim::oracle::random(in * kExamples, 1), y = optim::oracle::random(out * kExamples, 2);
  Doubles start1 = optim::oracle::random(hidden * in, 3), start2 = optim::oracle::random(out * hidden, 4);

  struct At {
    double loss;
    Doubles w1, w2;  // gradients
  };
  At at(const Doubles& w1, const Doubles& w2) const {
    Doubles h = reference::product(w1, x, hidden, in, kExamples);
    for (double& value : h) value = std::tanh(value);
    Doubles error = reference::product(w2, h, out, hidden, kExamples);
    double squares = 0;
    for (std::size_t i = 0; i < error.size(); ++i) {
      error[i] -= y[i];
      squares += error[i] * error[i];
    }
    Doubles back = reference::product(reference::transposed(w2, out, hidden), error, hidden, out, kExamples);
    for (std::size_t i = 0; i < back.size(); ++i) back[i] *= (1 - h[i] * h[i]) / kExamples;
    reference::multiply(error, 1.0 / kExamples);
    return {squares / (2 * kExamples),
            reference::product(back, reference::transposed(x, in, kExamples), hidden, kExamples, in),
            reference::product(error, reference::transposed(h, hidden, kExamples), out, kExamples, hidden)};
  }
};

struct Weights {
  Doubles w1, w2;
};

using Replay = std::function<void(reference::Parameter&, const Doubles&, const reference::Step&)>;

Weights replayed(const Network& network, const Replay& replay) {
  reference::Parameter p1{network.hidden, network.in, network.start1}, p2{network.out, network.hidden, network.start2};
  Weights before{p1.w, p2.w};
  for (int t = 1; t <= kSteps; ++t) {
    const Network::At at = network.at(p1.w, p2.w), old = network.at(before.w1, before.w2);
    before = {p1.w, p2.w};
    replay(p1, at.w1, {t, kRate, kDecay, reference::norm(at.w1), at.loss, old.w1});
    replay(p2, at.w2, {t, kRate, kDecay, reference::norm(at.w2), at.loss, old.w2});
  }
  return {p1.w, p2.w};
}

void give(DistributedOptimizer& optimizer, core::Parameter& parameter, const Doubles& gradient) {
  const core::GradientSlot slot = optimizer.gradients().slot(parameter);
  set_values(slot.gradient.flat(0, slot.gradient.size()), std::vector<float>(gradient.begin(), gradient.end()));
  optimizer.gradients().complete(parameter);
}

Doubles doubles_of(const core::Tensor& x) {
  const std::vector<float> values = values_of(x);
  return {values.begin(), values.end()};
}

Weights moved(const Network& network, const AnyRule& rule) {
  std::vector<core::Parameter> parameters;
  for (const auto& [name, shape] :
       {std::pair{"w1", core::Shape{network.hidden, network.in}}, {"w2", core::Shape{network.out, network.hidden}}})
    parameters.push_back({name, shape, core::ParameterKind::matrix, {core::Initializer::Kind::normal, 0.5}, {}, {}});
  core::ParameterList list = {&parameters[0], &parameters[1]};
  OptimizerConfig config;
  config.clip = 0;
  config.matrices.rule = rule;
  config.matrices.lr = kRate;
  config.matrices.weight_decay = kDecay;
  Weights result;
  run_on_devices(1, [&](dist::Communicator& communicator, core::Device& device) {
    DistributedOptimizer optimizer(device, list, config.for_run(kSteps), {}, communicator);
    optimizer.initialize(
        [&](const core::Parameter& p, std::int64_t begin, std::int64_t count, float* to) {
          const Doubles& from = p.name == "w1" ? network.start1 : network.start2;
          std::copy_n(from.begin() + begin, count, to);
        },
        [](const core::Parameter&) {});
    for (int t = 1; t <= kSteps; ++t) {
      const auto pass = [&] {
        const Network::At at = network.at(doubles_of(parameters[0].value), doubles_of(parameters[1].value));
        optimizer.begin_pass(true, true);
        give(optimizer, parameters[1], at.w2);
        give(optimizer, parameters[0], at.w1);
        return at;
      };
      if (optimizer.needs_old_gradients()) {
        optimizer.hold_old_weights();
        pass();
        optimizer.keep_old_gradients();
      }
      const Network::At at = pass();
      ASSERT_FALSE(optimizer.step(1, {.loss = at.loss}).skipped);
    }
    result = {doubles_of(parameters[0].value), doubles_of(parameters[1].value)};
  });
  return result;
}

void expect_equal(const Doubles& got, const Doubles& wanted, double tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], tolerance * (1 + std::fabs(wanted[i]))) << i;
}

void expect_replayed(AnyRule rule, const Replay& replay, const Network& network = {}, double tolerance = 1e-5) {
  if (auto* keys = dynamic_cast<SpectralKeys*>(&*rule)) {  // the recurrences' own error is another test's
    keys->method = "svd";
    keys->dtype = "float32";
  }
  const Weights got = moved(network, rule), wanted = replayed(network, replay);
  expect_equal(got.w1, wanted.w1, tolerance);
  expect_equal(got.w2, wanted.w2, tolerance);
}

class Family : public testing::TestWithParam<reference::Reference> {};

}  // namespace

TEST_P(Family, MovesFiveStepsAsItsReference) {
  AnyRule rule(GetParam().rule);
  if (auto* soap = dynamic_cast<Soap*>(&*rule)) soap->one_sided = true;
  expect_replayed(rule, GetParam().step);
}

INSTANTIATE_TEST_SUITE_P(Rules, Family, testing::ValuesIn(reference::kReferences),
                         [](const auto& of) { return std::string(of.param.rule); });

TEST(FamilyKeys, AuONsHybridTakesOneStepOfNewtonAndSchulz) {
  AnyRule rule("auon");
  rule.as<AuON>().hybrid = true;
  expect_replayed(rule, [](auto& p, const auto& g, const auto& s) { reference::auon(p, g, s, true); });
}

// Inexact: what a few steps of Newton and Schulz leave of the singular values.
TEST(FamilyKeys, MuonIsStoppedAfterItsSteps) {
  for (const char* method : {"newton_schulz5", "symmetric_newton_schulz5", "gram_newton_schulz"})
    for (const int steps : {1, 2, 7}) {
      SCOPED_TRACE(fmt::format("{} {}", method, steps));
      Muon muon;
      muon.method = method;
      muon.steps = steps;
      muon.dtype = "float32";
      const auto replay = [steps](auto& p, const auto& g, const auto& s) {
        optim::oracle::Svd d = optim::oracle::svd(reference::momentum(p, g, 0.95, false, true), p.rows, p.cols);
        const double norm = reference::norm(d.s);
        for (double& x : d.s) {
          x /= norm;
          for (int k = 0; k < steps; ++k) x = 3.4445 * x - 4.7750 * std::pow(x, 3) + 2.0315 * std::pow(x, 5);
          x *= reference::aspect(p);
        }
        reference::apply(p, optim::oracle::compose(d, d.s), s);
      };
      const Network network;
      const Weights got = moved(network, AnyRule(muon.clone())), wanted = replayed(network, replay);
      expect_equal(got.w1, wanted.w1, 1e-5);
      expect_equal(got.w2, wanted.w2, 1e-5);
    }
}

TEST(FamilyKeys, MvrsExactVariantHasTheGradientAtTheWeightsBefore) {
  AnyRule rule("muon_mvr");
  rule.as<MuonMvr>().variant = "exact";
  expect_replayed(rule, [](auto& p, const auto& g, const auto& s) { reference::muon_mvr(p, g, s, true); });
}

TEST(FamilyKeys, SoapsBasesTurnEveryFewSteps) {
  AnyRule rule("soap");
  rule.as<Soap>().frequency = 2;
  rule.as<Soap>().one_sided = true;
  expect_replayed(rule, [](auto& p, const auto& g, const auto& s) { reference::soap(p, g, s, 2, true); });
}

// The frame's rounding, 2^-24, grows by the gradients' condition number on each side, here of up to 20.
TEST(FamilyKeys, SoapTurnsBothSides) {
  expect_replayed(
      AnyRule("soap"), [](auto& p, const auto& g, const auto& s) { reference::soap(p, g, s, 10, false); },
      {.in = 6, .hidden = 6, .out = 6}, 4 * 400 * 0x1p-24);
}

// A side that is too long is left as it is: of these matrices the longer one.
TEST(FamilyKeys, SoapLeavesLongSides) {
  AnyRule rule("soap");
  rule.as<Soap>().max_dimension = 8;
  expect_replayed(rule, [](auto& p, const auto& g, const auto& s) { reference::soap(p, g, s, 10, true); });
}

// Two of six or eight modes, by power steps that have converged.
TEST(FamilyKeys, SpecMuonMovesTheLeadingModesOnly) {
  AnyRule rule("specmuon");
  rule.as<SpecMuon>().modes = 2;
  rule.as<SpecMuon>().power_steps = 60;
  expect_replayed(rule, [](auto& p, const auto& g, const auto& s) { reference::specmuon(p, g, s, 2); });
}

namespace {

// What a rule's owner keeps of a parameter, zero at first.
std::vector<core::Tensor> owned_states(core::Device& device, const Rule& rule, const core::Shape& shape,
                                       const Split* split) {
  std::vector<core::Tensor> states;
  for (const StateSpec& state : rule.states_of(Home::owner)) {
    const std::vector<MatrixBatch> batches = matrix_batches("w", shape, split);
    states.push_back(
        core::Tensor::zeros(device, state_shape(state, batches), core::Dtype::float32, core::Category::optimizer));
  }
  return states;
}

}  // namespace

class FamilySplits : public testing::TestWithParam<std::string_view> {};

// Parts that lie side by side, in two matrices of a stack, are moved as six matrices alone, with states of their own.
TEST_P(FamilySplits, PartsOfAStackMoveAsMatricesOfTheirOwn) {
  constexpr std::int64_t kStack = 2, kParts = 3, kRows = 5, kCols = 4;
  OptimizerConfig config;
  config.matrices.rule = GetParam();
  const AnyRule rule = config.for_run(3).matrices.rule;
  const TestDevice owner = make_test_device(1);
  core::Device& device = *owner;
  const Split split{.name = "qkv", .columns = true, .parts = {"q", "k", "v"}};
  const core::Shape shape = {kStack, kRows, kParts * kCols}, part = {kRows, kCols};
  const std::vector<core::Tensor> states = owned_states(device, *rule, shape, &split);
  std::vector<std::vector<core::Tensor>> alone_states;
  for (int i = 0; i < kStack * kParts; ++i) alone_states.push_back(owned_states(device, *rule, part, nullptr));
  for (int step = 1; step <= 3; ++step) {
    const StepFacts facts{.step = step, .lr = 0.1, .gradient_norm = 2, .loss = 1};
    const Doubles g = optim::oracle::random(core::element_count(shape), static_cast<std::uint64_t>(step));
    const auto in_tensor = [&](const Doubles& x) {
      const core::Tensor t = core::Tensor::zeros(device, {std::ssize(x)}, core::Dtype::float32, core::Category::exchange);
      set_values(t, std::vector<float>(x.begin(), x.end()));
      return t;
    };
    const MatrixInput whole{.name = "w",
                            .shape = shape,
                            .split = &split,
                            .in = in_tensor(g),
                            .out = in_tensor(Doubles(g.size(), NAN)),
                            .states = states,
                            .facts = facts};
    rule->matrix_step(device.kind())->compute(device, step, {&whole, 1});
    const std::vector<float> moved = values_of(whole.out);
    for (int e = 0; e < kStack; ++e)
      for (int q = 0; q < kParts; ++q) {
        const auto at = [&](std::int64_t i) {
          return static_cast<std::size_t>((e * kRows + i / kCols) * kParts * kCols + q * kCols + i % kCols);
        };
        Doubles mine(kRows * kCols);
        for (std::int64_t i = 0; i < kRows * kCols; ++i) mine[static_cast<std::size_t>(i)] = g[at(i)];
        const MatrixInput alone{.name = "part",
                                .shape = part,
                                .in = in_tensor(mine),
                                .out = in_tensor(Doubles(mine.size(), NAN)),
                                .states = alone_states[static_cast<std::size_t>(e * kParts + q)],
                                .facts = facts};
        rule->matrix_step(device.kind())->compute(device, step, {&alone, 1});
        const std::vector<float> wanted = values_of(alone.out);
        // A batch may differ from single calls in the last bits.
        for (std::int64_t i = 0; i < kRows * kCols; ++i)
          ASSERT_NEAR(moved[at(i)], wanted[static_cast<std::size_t>(i)], 1e-4 * (1 + std::fabs(moved[at(i)])))
              << "step " << step << ", matrix " << e << ", part " << q << ", " << i;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, FamilySplits, testing::ValuesIn([] {
                           std::vector<std::string_view> names = rule_names();
                           std::erase_if(names,
                                         [](std::string_view name) { return !AnyRule(name)->needs().whole_matrices; });
                           return names;
                         }()),
                         [](const auto& of) { return std::string(of.param); });
