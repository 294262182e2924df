// Rules of the factors of a low-rank adapter: which of them a rule of matrices takes, and LoRA-Muon^p, at every world size
// and stage, against its equations in double precision, and against another factoring of the same product.
#include <gmock/gmock.h>

#include "optim/engine/distributed_optimizer.h"
#include "optim/rules/muonp.h"
#include "tests/optim/engine/small_model.h"
#include "tests/reference/rules.h"

namespace muonp::optim {
namespace {

using reference::Doubles;
using reference::product;

constexpr std::int64_t kRows = 9, kRank = 3, kCols = 7;
constexpr double kScale = 1.5;
constexpr int kSteps = 4;

struct Pair {
  core::Parameter frozen, a, b;
  core::ParameterList list{&frozen, &a, &b};
  Pair() {
    using core::ParameterKind;
    frozen.name = "w.weight";
    frozen.shape = {kRows, kCols};
    frozen.kind = ParameterKind::matrix;
    frozen.init = {core::Initializer::Kind::normal, 1};
    frozen.trained = false;
    a.name = "w.lora_A.weight";
    a.shape = {kRank, kCols};
    a.kind = ParameterKind::lora_a;
    b.name = "w.lora_B.weight";
    b.shape = {kRows, kRank};
    b.kind = ParameterKind::lora_b;
    a.partner = &b;
    b.partner = &a;
    a.product_scale = b.product_scale = kScale;
  }
};

OptimizerConfig config_of(const std::string& lora, const std::string& p = "1/3") {
  OptimizerConfig config;
  config.clip = 0;
  config.matrices.lr = 0.1;
  config.matrices.weight_decay = 0.5;
  Muonp& rule = config.matrices.rule.as<Muonp>();
  rule.method = "svd";  // the recurrences' own error is another test's
  rule.dtype = "float32";
  rule.p = p;
  rule.lora = lora;
  return config;
}

// The gradient of a loss by the product at a step.
Doubles slope(int step) { return oracle::random(kRows * kCols, static_cast<std::uint64_t>(100 + step)); }

Doubles transposed(const Doubles& x, std::int64_t rows, std::int64_t cols) {
  Doubles t(x.size());
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) t[std::size_t(j * rows + i)] = x[std::size_t(i * cols + j)];
  return t;
}
Doubles gradient_b(const Doubles& a, int step) {
  Doubles g = product(slope(step), transposed(a, kRank, kCols), kRows, kCols, kRank);
  for (double& x : g) x *= kScale;
  return g;
}
Doubles gradient_a(const Doubles& b, int step) {
  Doubles g = product(transposed(b, kRows, kRank), slope(step), kRank, kRows, kCols);
  for (double& x : g) x *= kScale;
  return g;
}

Doubles start_a() { return oracle::random(kRank * kCols, 1); }
Doubles start_b() { return oracle::random(kRows * kRank, 2); }

core::WeightFiller filler(const Doubles& a, const Doubles& b) {
  return [&](const core::Parameter& p, std::int64_t begin, std::int64_t count, float* to) {
    if (!p.trained) return core::initialize(p, 1, begin, count, to);
    const Doubles& from = p.kind == core::ParameterKind::lora_a ? a : b;
    std::copy_n(from.begin() + begin, count, to);
  };
}

Doubles doubles_of(const std::vector<float>& x) { return {x.begin(), x.end()}; }

// Every rank has the same gradient, which is the mean.
void backward(DistributedOptimizer& optimizer, Pair& pair, const Doubles& ga, const Doubles& gb) {
  optimizer.begin_pass(true, true);
  for (core::Parameter* p : pair.list) optimizer.weights().acquire({{p}});
  for (core::Parameter* p : {&pair.b, &pair.a, &pair.frozen}) {
    optimizer.weights().acquire({{p}});
    if (!p->trained) continue;
    const core::GradientSlot slot = optimizer.gradients().slot(*p);
    const Doubles& g = p == &pair.a ? ga : gb;
    test::set_values(slot.gradient, std::vector<float>(g.begin(), g.end()));
    optimizer.gradients().complete(*p);
  }
}

std::map<std::string, std::vector<float>> weights_of(DistributedOptimizer& optimizer, Pair& pair) {
  std::map<std::string, std::vector<float>> all;
  optimizer.begin_evaluation();
  for (core::Parameter* p : pair.list) {
    optimizer.weights().acquire({{p}});
    all[p->name] = test::values_of(p->value);
  }
  optimizer.wait_for_weights();
  return all;
}

// The weights after kSteps from (a, b).
std::map<std::string, std::vector<float>> train(dist::Communicator& communicator, core::Device& device, int zero,
                                                const OptimizerConfig& config, const Doubles& a, const Doubles& b) {
  Pair pair;
  ParallelOptions options;
  options.zero = zero;
  options.bucket_elements = 25;
  options.reads.operation({&pair.frozen}, {&pair.frozen});
  options.reads.forward.push_back({&pair.a});
  options.reads.forward.push_back({&pair.b});
  options.reads.backward = {{&pair.b}, {&pair.a}, {&pair.frozen}};
  DistributedOptimizer optimizer(device, pair.list, config, options, communicator);
  optimizer.initialize(filler(a, b), [](const core::Parameter&) {});
  for (int step = 0; step < kSteps; ++step) {
    auto now = weights_of(optimizer, pair);
    const Doubles of_a = doubles_of(now[pair.a.name]), of_b = doubles_of(now[pair.b.name]);
    backward(optimizer, pair, gradient_a(of_b, step), gradient_b(of_a, step));
    EXPECT_FALSE(optimizer.step(1).skipped);
    optimizer.require_equal_weights();
  }
  return weights_of(optimizer, pair);
}

std::pair<Doubles, Doubles> replay(double exponent) {
  reference::Parameter a{kRank, kCols, start_a()}, b{kRows, kRank, start_b()};
  for (int t = 1; t <= kSteps; ++t) {
    const Doubles ga = gradient_a(b.w, t - 1), gb = gradient_b(a.w, t - 1);
    reference::lora_muonp(b, a, gb, ga, {t, 0.1, 0.5}, kScale, exponent, 0.95, true, true);
  }
  return {a.w, b.w};
}

Doubles whole(const Doubles& b, const Doubles& a) { return product(b, a, kRows, kRank, kCols); }

}  // namespace

TEST(LoraRules, WhitenedFollowsItsEquationsAtEveryWorldSizeAndStage) {
  const auto [a, b] = replay(1.0 / 3);
  for (const int ranks : {1, 2, 3, 4})
    for (const int zero : {0, 1, 2, 3})
      test::run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
        SCOPED_TRACE(fmt::format("{} ranks, stage {}", ranks, zero));
        auto got = train(communicator, device, zero, config_of("whitened"), start_a(), start_b());
        EXPECT_LT(oracle::relative_difference(doubles_of(got["w.lora_A.weight"]), a), 1e-4);
        EXPECT_LT(oracle::relative_difference(doubles_of(got["w.lora_B.weight"]), b), 1e-4);
        std::vector<float> made(kRows * kCols);
        Pair pair;
        core::initialize(pair.frozen, 1, 0, kRows * kCols, made.data());
        EXPECT_EQ(got["w.weight"], made);
      });
}

// B A = (B M)(M⁻¹ A), for an M far from orthogonal.
TEST(LoraRules, WhitenedMovesTheProductAlikeHoweverItIsFactored) {
  const Doubles m = {4, 0.5, 0, 0, 0.25, 1, -1, 0, 2}, inverse = [] {
    Doubles i(9);
    const Doubles x = {4, 0.5, 0, 0, 0.25, 1, -1, 0, 2};
    const double det =
        x[0] * (x[4] * x[8] - x[5] * x[7]) - x[1] * (x[3] * x[8] - x[5] * x[6]) + x[2] * (x[3] * x[7] - x[4] * x[6]);
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 3; ++c) {
        const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
        i[std::size_t(c * 3 + r)] = (x[std::size_t(r1 * 3 + c1)] * x[std::size_t(r2 * 3 + c2)] -
                                     x[std::size_t(r1 * 3 + c2)] * x[std::size_t(r2 * 3 + c1)]) /
                                    det;
      }
    return i;
  }();
  const Doubles other_a = product(inverse, start_a(), kRank, kRank, kCols),
                other_b = product(start_b(), m, kRows, kRank, kRank);
  ASSERT_LT(oracle::relative_difference(whole(other_b, other_a), whole(start_b(), start_a())), 1e-12);
  for (const char* p : {"0", "1/2"})
    for (const char* lora : {"whitened", "both"})
      test::run_on_devices(1, [&](dist::Communicator& communicator, core::Device& device) {
        const auto config = config_of(lora, p);
        auto one = train(communicator, device, 0, config, start_a(), start_b());
        auto other = train(communicator, device, 0, config, other_a, other_b);
        const auto product_of = [](auto& w) {
          return whole(doubles_of(w["w.lora_B.weight"]), doubles_of(w["w.lora_A.weight"]));
        };
        const double difference = oracle::relative_difference(product_of(other), product_of(one));
        if (lora == std::string("whitened")) {
          EXPECT_LT(difference, 1e-3) << p;
        } else {
          EXPECT_GT(difference, 1e-2) << p;  // so that the test can fail
        }
      });
}

TEST(LoraRules, AFactorBesideAZeroOneStays) {
  test::run_on_devices(1, [&](dist::Communicator& communicator, core::Device& device) {
    OptimizerConfig config = config_of("whitened");
    config.matrices.weight_decay = 0;
    Pair pair;
    DistributedOptimizer optimizer(device, pair.list, config, {.zero = 0}, communicator);
    const Doubles zero(kRows * kRank, 0.0);
    optimizer.initialize(filler(start_a(), zero), [](const core::Parameter&) {});
    backward(optimizer, pair, gradient_a(zero, 0), gradient_b(start_a(), 0));
    optimizer.step(1);
    auto got = weights_of(optimizer, pair);
    const Doubles a = start_a();
    EXPECT_EQ(got["w.lora_A.weight"], std::vector<float>(a.begin(), a.end()));
    EXPECT_GT(oracle::norm(doubles_of(got["w.lora_B.weight"])), 0);
  });
}

TEST(LoraRules, MatricesTakeBothFactorsOrBAlone) {
  Pair pair;
  const core::ParameterList trained = core::trained_of(pair.list);
  const auto group_of = [&](const char* lora) {
    std::map<std::string, std::string> of;
    const Groups groups(config_of(lora), trained);
    for (int p = 0; p < 2; ++p) of[trained[std::size_t(p)]->name] = groups.group_for(p).config.name;
    return of;
  };
  EXPECT_EQ(group_of("b_only")["w.lora_A.weight"], "others");
  EXPECT_EQ(group_of("b_only")["w.lora_B.weight"], "matrices");
  for (const char* lora : {"both", "whitened"}) {
    EXPECT_EQ(group_of(lora)["w.lora_A.weight"], "matrices");
    EXPECT_EQ(group_of(lora)["w.lora_B.weight"], "matrices");
  }
}

// No state, no gradient, no byte sent of what is frozen, and no master in bfloat16.
TEST(LoraRules, PlansNothingButWeightsOfWhatIsFrozen) {
  Pair pair;
  core::ParameterList alone = core::trained_of(pair.list);
  const auto plan = [&](const core::ParameterList& list, int zero, core::Dtype dtype) {
    ParallelOptions options;
    options.zero = zero;
    options.weight_dtype = dtype;
    return make_execution_plan(list, config_of("b_only"), options, 4);
  };
  for (const int zero : {0, 1, 2, 3})
    for (const core::Dtype dtype : {core::Dtype::float32, core::Dtype::bfloat16}) {
      const ExecutionPlan with = plan(pair.list, zero, dtype), without = plan(alone, zero, dtype);
      EXPECT_GT(with.bytes(0).weights, without.bytes(0).weights);
      EXPECT_EQ(with.bytes(0).gradients, without.bytes(0).gradients);
      EXPECT_EQ(with.bytes(0).optimizer, without.bytes(0).optimizer);
      EXPECT_EQ(with.snapshot_bytes(0), without.snapshot_bytes(0));
      if (zero < 3) {
        EXPECT_EQ(with.bytes_sent_per_step(), without.bytes_sent_per_step());
      }
    }
}

}  // namespace muonp::optim
