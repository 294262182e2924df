// Spectral diagnostics of a step on ranks that are threads: figures of what owners saw against decompositions in double
// precision, the same at every world size and stage, exact and compressed.
#include "optim/engine/diagnostics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>

#include "tests/optim/engine/small_model.h"
#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;
using oracle::Doubles;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

// Layers of one kind, a stack, a fused matrix whose parts are matrices, one row.
struct LayeredModel : SmallModel {
  LayeredModel() {
    using core::ParameterKind;
    parameters.clear();
    list.clear();
    const auto add = [this](const char* name, core::Shape shape, ParameterKind kind) {
      parameters.push_back({name, std::move(shape), kind, {core::Initializer::Kind::normal, 0.5}, {}, {}});
    };
    add("embedding", {19, 6}, ParameterKind::embedding);
    add("blocks.0.qkv.weight", {9, 5}, ParameterKind::matrix);
    add("blocks.0.up.weight", {12, 6}, ParameterKind::matrix);
    add("blocks.0.bias", {12}, ParameterKind::vector);
    add("blocks.1.qkv.weight", {9, 5}, ParameterKind::matrix);
    add("blocks.1.up.weight", {12, 6}, ParameterKind::matrix);
    add("experts.weight", {3, 4, 7}, ParameterKind::matrix);
    add("row.weight", {1, 5}, ParameterKind::matrix);
    for (core::Parameter& p : parameters) list.push_back(&p);
  }
};

OptimizerConfig layered_config() {
  OptimizerConfig config = small_config();
  config.matrices.splits.push_back({.name = "qkv", .pattern = "*.qkv.weight", .parts = {"q", "k", "v"}});
  return config;
}

struct Training {
  int ranks = 1, zero = 1, steps = 3;
  bool overlap = false;
  core::Dtype dtype = core::Dtype::float32;
  std::string compressor = "none", others = "none";
  std::vector<std::string> spectra = {"*"};
  OptimizerConfig config = layered_config();
};

ParallelOptions options_of(const Training& run) {
  return {.zero = run.zero,
          .bucket_elements = 100,
          .wave_elements = 80,
          .overlap = run.overlap,
          .weight_dtype = run.dtype,
          .compression = parse_compression(run.compressor, run.compressor, run.others),
          .spectra = run.spectra};
}

// What rank 0 saw in the last step.
struct Seen {
  std::vector<MatrixRecord> records;
  std::map<std::string, std::vector<float>> momentum, before, after;
};

Seen train(const Training& run) {
  Seen seen;
  std::mutex mutex;
  run_on_devices(run.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    LayeredModel model;
    DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), communicator);
    optimizer.initialize(3);
    optimizer.observe_inputs([&](const std::string& name, const core::Tensor& input) {
      std::lock_guard lock(mutex);
      seen.momentum[name] = values_of(input);
    });
    for (std::int64_t step = 0; step < run.steps; ++step) {
      const auto before = named_weights(model, optimizer);
      backward(model, optimizer, communicator.rank(), run.ranks, 1, step);
      EXPECT_TRUE(optimizer.prepare().finite);
      const bool last = step + 1 == run.steps;
      const StepReport report = optimizer.apply(1.0, {.measure = last});
      EXPECT_EQ(report.spectra.empty(), !last);
      const auto after = named_weights(model, optimizer);
      std::lock_guard lock(mutex);
      if (last && communicator.rank() == 0) {
        seen.records = report.spectra;
        seen.before = before;
        seen.after = after;
      }
    }
  });
  return seen;
}

std::vector<double> figures_of(const spectral::Spectrum& s) {
  std::vector<double> all = {s.norm, s.stable_rank, s.effective_rank, s.nuclear_ratio};
  all.insert(all.end(), s.sigma.begin(), s.sigma.end());
  return all;
}

std::vector<double> figures_of(const MatrixRecord& record) {
  std::vector<double> all;
  for (const auto& spectrum : {record.spectra.momentum, record.spectra.update, record.spectra.weight})
    for (const double figure : figures_of(spectrum.value())) all.push_back(figure);
  all.push_back(record.spectra.alignment->cosine);
  all.push_back(record.spectra.alignment->gram);
  return all;
}

// A singular value moves with the square root of what its square moves by.
void expect_same(const std::vector<MatrixRecord>& a, const std::vector<MatrixRecord>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    SCOPED_TRACE(a[i].name);
    EXPECT_EQ(a[i].name, b[i].name);
    EXPECT_EQ(a[i].kind, b[i].kind);
    const std::vector<double> x = figures_of(a[i]), y = figures_of(b[i]);
    for (std::size_t k = 0; k < x.size(); ++k) EXPECT_NEAR(x[k], y[k], tolerance * (1 + std::fabs(y[k]))) << "figure " << k;
  }
}

const MatrixRecord& record_of(const Seen& seen, const std::string& name) {
  for (const MatrixRecord& record : seen.records)
    if (record.name == name) return record;
  throw std::out_of_range(name);
}

Doubles part(const std::vector<float>& values, std::int64_t begin, std::int64_t count) {
  return {values.begin() + begin, values.begin() + begin + count};
}

void expect_spectrum(const std::optional<spectral::Spectrum>& found, const Doubles& a, const MatrixRecord& record) {
  const oracle::Svd d = oracle::svd(a, record.rows, record.cols);
  const double squares = oracle::power_sum(d.s, 2);
  EXPECT_NEAR(found->norm, std::sqrt(squares), 1e-5 * std::sqrt(squares));
  EXPECT_NEAR(found->stable_rank, squares / (d.s[0] * d.s[0]), 1e-4);
  EXPECT_NEAR(found->nuclear_ratio, oracle::power_sum(d.s, 1) / std::sqrt(squares), 1e-3);
  EXPECT_NEAR(found->sigma[4], d.s[0], 1e-4 * d.s[0]);
  EXPECT_NEAR(found->sigma[0], d.s.back(), 3e-3 * d.s[0]);
}

}  // namespace

TEST(Diagnostics, AreOfTheMatricesThatOwnersSee) {
  const Seen seen = train({.ranks = 3, .zero = 2});
  const Training run;
  struct Case {
    std::string name, parameter;
    std::int64_t begin;
  };
  for (const Case& c : {Case{"blocks.1.up.weight", "blocks.1.up.weight", 0},
                        {"row.weight", "row.weight", 0},
                        {"experts.weight[2]", "experts.weight", 56},
                        {"blocks.0.qkv.weight[k]", "blocks.0.qkv.weight", 15}}) {
    SCOPED_TRACE(c.name);
    const MatrixRecord& record = record_of(seen, c.name);
    const std::int64_t count = record.rows * record.cols;
    const Doubles n = part(seen.momentum.at(c.parameter), c.begin, count);
    const Doubles w = part(seen.before.at(c.parameter), c.begin, count),
                  moved = part(seen.after.at(c.parameter), c.begin, count);
    Doubles u;
    const double lr = 0.02, keep = 1 - lr * run.config.matrices.weight_decay.at(1);
    for (std::size_t i = 0; i < w.size(); ++i) u.push_back((keep * w[i] - moved[i]) / lr);
    expect_spectrum(record.spectra.momentum, n, record);
    expect_spectrum(record.spectra.weight, w, record);
    expect_spectrum(record.spectra.update, u, record);
    EXPECT_NEAR(record.spectra.alignment->cosine, oracle::dot(n, w) / oracle::norm(n) / oracle::norm(w), 1e-6);
  }
}

TEST(Diagnostics, NameEveryMatrixOfStacksAndSplitsAndItsKind) {
  const Seen seen = train({.ranks = 2});
  std::vector<std::string> names, kinds;
  for (const MatrixRecord& record : seen.records) {
    names.push_back(record.name);
    kinds.push_back(record.kind);
    EXPECT_FALSE(record.feedback);
  }
  EXPECT_THAT(names,
              ElementsAre("blocks.0.qkv.weight[q]", "blocks.0.qkv.weight[k]", "blocks.0.qkv.weight[v]", "blocks.0.up.weight",
                          "blocks.1.qkv.weight[q]", "blocks.1.qkv.weight[k]", "blocks.1.qkv.weight[v]", "blocks.1.up.weight",
                          "experts.weight[0]", "experts.weight[1]", "experts.weight[2]", "row.weight"));
  EXPECT_EQ(kinds[0], "blocks.qkv.weight[q]");
  EXPECT_EQ(kinds[4], kinds[0]);
  EXPECT_EQ(kinds[7], "blocks.up.weight");
  EXPECT_EQ(kinds[9], "experts.weight");
  EXPECT_EQ(kind_of("blocks.10.attention.qkv.weight", "[2][head 11]"), "blocks.attention.qkv.weight[head]");
}

TEST(Diagnostics, AreTheSameAtEveryWorldSizeAndStage) {
  const Seen reference = train({.ranks = 1, .zero = 0});
  for (const int ranks : {1, 2, 3, 4})
    for (const int zero : {0, 1, 2, 3})
      for (const bool overlap : {false, true}) {
        if (overlap && zero % 2 == 0) continue;
        SCOPED_TRACE(fmt::format("{} ranks, stage {}, overlap {}", ranks, zero, overlap));
        // Float32 sums in another order, through three steps, under a square root.
        expect_same(train({.ranks = ranks, .zero = zero, .overlap = overlap}).records, reference.records, 5e-4);
      }
}

namespace {

using State = std::map<std::string, std::vector<float>>;

void add_state(const DistributedOptimizer& optimizer, State& to) {
  for (const StateTensor& t : optimizer.state_to_save()) {
    std::vector<float>& whole = to[t.name];
    whole.resize(static_cast<std::size_t>(core::element_count(t.shape)));
    std::ranges::copy(values_of(t.data), whole.begin() + t.interval.begin);
  }
}

// What all ranks hold after some steps, and the last step's report.
struct Held {
  State state;
  StepReport report;
};

Held train_and_hold(const Training& run, bool measure) {
  Held held;
  std::mutex mutex;
  run_on_devices(run.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    LayeredModel model;
    DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), communicator);
    optimizer.initialize(3);
    StepReport report;
    for (std::int64_t step = 0; step < run.steps; ++step) {
      backward(model, optimizer, communicator.rank(), run.ranks, 1, step);
      optimizer.prepare();
      report = optimizer.apply(1, {.measure = measure});
    }
    std::lock_guard lock(mutex);
    if (communicator.rank() == 0) held.report = report;
    add_state(optimizer, held.state);
  });
  return held;
}

}  // namespace

TEST(Diagnostics, ChangeNoBitOfTheState) {
  for (const int zero : {0, 1, 3})
    for (const core::Dtype dtype : {core::Dtype::float32, core::Dtype::bfloat16}) {
      const Training run{.ranks = 3, .zero = zero, .dtype = dtype};
      EXPECT_EQ(train_and_hold(run, true).state, train_and_hold(run, false).state);
    }
}

TEST(Diagnostics, MeasureWhatPatternsChoose) {
  std::vector<std::string> names;
  for (const MatrixRecord& record : train({.ranks = 2, .spectra = {"blocks.1.up.*", "row.weight"}}).records)
    names.push_back(record.name);
  EXPECT_THAT(names, ElementsAre("blocks.1.up.weight", "row.weight"));
}

TEST(Diagnostics, RefusePatternsAndRunsWithoutMatrices) {
  const auto message = [](Training run) {
    LayeredModel model;
    try {
      make_execution_plan(model.list, run.config, options_of(run), 2);
    } catch (const core::Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message({}), "");
  EXPECT_THAT(message({.spectra = {"*", "block.*"}}), HasSubstr("log.spectra: pattern block.* matches no matrix"));
  EXPECT_THAT(message({.spectra = {"embedding"}}), HasSubstr("pattern embedding matches no matrix"));
  Training adamw;
  adamw.config.matrices.rule = "adamw";
  adamw.config.matrices.splits.clear();
  EXPECT_THAT(message(adamw), HasSubstr("log.spectra_every: no group of this run has a rule that moves whole matrices"));
}

TEST(Diagnostics, TakeTheMemoryOfThePlan) {
  for (const int zero : {0, 1, 2, 3})
    for (const std::string compressor : {"none", "int5"}) {
      if (zero > 1 && compressor != "none") continue;
      run_on_devices(3, [&](dist::Communicator& communicator, core::Device& device) {
        LayeredModel model;
        Training run{.ranks = 3, .zero = zero, .compressor = compressor};
        Muonp& rule = run.config.matrices.rule.as<Muonp>();  // one that takes less memory than its diagnostics
        rule.method = "newton_schulz5";
        rule.p = "0";
        DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), communicator);
        optimizer.initialize(3);
        backward(model, optimizer, communicator.rank(), 3, 1, 0);
        optimizer.prepare();
        optimizer.apply(1, {.measure = true});
        const core::MemoryUse used = device.allocator()->use();
        const ExecutionPlan::Bytes planned = optimizer.plan().bytes(communicator.rank());
        EXPECT_LE(used.peak_of(core::Category::exchange), planned.exchange) << "stage " << zero << ", " << compressor;
      });
    }
}

namespace {

double squares(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return sum;
}

}  // namespace

TEST(Diagnostics, OfErrorFeedbackAreThoseOfItsStates) {
  for (const std::string compressor : {"int5", "natural", "top_k 0.3", "rank 1"})
    for (const int zero : {0, 1}) {
      Training run{.ranks = 3, .zero = zero, .compressor = compressor, .others = zero == 0 ? "none" : "int8"};
      run.config.matrices.rule.as<Muonp>().nesterov = false;  // so that what ranks send is their momentum itself
      const Held held = train_and_hold(run, true);
      const State& state = held.state;
      const std::vector<MatrixRecord>& records = held.report.spectra;
      ASSERT_EQ(records.size(), 12u);
      for (const MatrixRecord& record : records) {
        const std::string parameter = record.name.substr(0, record.name.find('['));
        SCOPED_TRACE(fmt::format("{} {}", compressor, parameter));
        double lag = 0, target = 0;
        for (int r = 0; r < 3; ++r) {
          const auto& momentum = state.at(fmt::format("{}/momentum#{}", parameter, r));
          lag += squares(momentum, state.at(fmt::format("{}/estimate#{}", parameter, r)));
          target += squares(momentum, std::vector<float>(momentum.size(), 0));
        }
        const auto& weights = state.at(parameter + "/weights");
        const double gap = squares(state.at(parameter + "/master"), weights);
        EXPECT_NEAR(record.feedback->lag, std::sqrt(lag / target), 1e-6);
        EXPECT_NEAR(record.feedback->gap, std::sqrt(gap / squares(weights, std::vector<float>(weights.size(), 0))), 1e-6);
        const std::int64_t rows = parameter == "experts.weight" ? 12 : record.rows * (record.name == parameter ? 1 : 3);
        const double alpha = dist::make_compressor(dist::parse_compressor(compressor), rows, record.cols)->alpha();
        for (const double seen : {record.feedback->alpha_to_owner, record.feedback->alpha_to_workers}) {
          EXPECT_GE(seen, alpha - 1e-6);
          EXPECT_LE(seen, 1);
        }
      }
    }
}

TEST(Diagnostics, OfExactMessagesShowNoLagAndTheSpectraOfTheUncompressedStep) {
  OptimizerConfig config = layered_config();
  config.clip = 0;  // which knows the norm of the mean only where gradients are reduced
  const Seen exact = train({.ranks = 1, .config = config});
  const Seen sent = train({.ranks = 1, .compressor = "identity", .config = config});
  expect_same(sent.records, exact.records, 1e-6);
  for (const MatrixRecord& record : sent.records) {
    EXPECT_EQ(record.feedback->alpha_to_owner, 1);
    EXPECT_EQ(record.feedback->alpha_to_workers, 1);
    EXPECT_EQ(record.feedback->lag, 0);
    EXPECT_EQ(record.feedback->gap, 0);
  }
  expect_same(train({.ranks = 4, .zero = 0, .compressor = "identity", .config = config}).records, exact.records, 5e-4);
}
