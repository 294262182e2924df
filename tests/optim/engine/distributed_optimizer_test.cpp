// The whole optimizer on ranks that are threads, on the CPU or with a GPU each: the same weights at every
// world size and stage, and what each step may and may not change.
#include "optim/engine/distributed_optimizer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "dist/comm/agreement.h"
#include "dist/comm/decorators.h"
#include "optim/rules/adamw.h"
#include "optim/rules/muonp.h"
#include "tests/optim/engine/small_model.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;
using core::Dtype;

namespace {

using Model = SmallModel;

struct Training {
  int ranks = 1, zero = 1, passes = 1, steps = 4;
  bool overlap = false;
  OptimizerConfig config = small_config();
  SampleGradient gradient = sample_gradient;
};

struct Result {
  std::vector<float> weights;
  std::vector<double> norms;
  std::map<std::string, int> spectral_calls;
};

ParallelOptions options_of(const Training& run) {
  return {.zero = run.zero, .bucket_elements = 100, .wave_elements = 80, .overlap = run.overlap};
}

Result train(const Training& run) {
  Result result;
  std::mutex mutex;
  run_on_devices(run.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    Model model;
    DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), communicator);
    optimizer.observe_inputs([&](const std::string& name, const core::Tensor&) {
      std::lock_guard lock(mutex);
      ++result.spectral_calls[name];
    });
    optimizer.initialize(3);
    std::vector<double> norms;
    for (std::int64_t step = 0; step < run.steps; ++step) {
      backward(model, optimizer, communicator.rank(), run.ranks, run.passes, step, run.gradient);
      norms.push_back(optimizer.step(1.0).gradient_norm);
      optimizer.require_equal_weights();
    }
    std::vector<float> weights = weights_of(model, optimizer);
    if (communicator.rank() == 0) {
      std::lock_guard lock(mutex);
      result.weights = std::move(weights);
      result.norms = norms;
    }
  });
  return result;
}

// Float32 sums in another order differ by a few units of 2⁻²⁴ relative to their largest term; a step passes
// such a difference on at most tenfold (the spectral power's slope at ε and AdamW's at small gradients).
void expect_equal_weights(const Result& a, const Result& b, int steps) {
  const double tolerance = 10 * steps * 16 * 0x1p-24;
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (std::size_t i = 0; i < a.weights.size(); ++i)
    ASSERT_NEAR(a.weights[i], b.weights[i], tolerance * (1 + std::fabs(a.weights[i]))) << "element " << i;
}

std::vector<float> snapshot(const DistributedOptimizer& optimizer) {
  std::vector<float> all;
  for (const StateTensor& t : optimizer.state_to_save()) {
    const std::vector<float> values = values_of(t.data);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace

TEST(DistributedOptimizer, Pitfall02_EveryStageAndWorldSizeGivesTheSameWeights) {
  const Result reference = train({.ranks = 1, .zero = 0});
  for (int ranks : {1, 2, 3, 4})
    for (int zero : {0, 1, 2, 3})
      for (bool overlap : {false, true}) {
        SCOPED_TRACE(fmt::format("{} ranks, stage {}, overlap {}", ranks, zero, overlap));
        expect_equal_weights(reference, train({.ranks = ranks, .zero = zero, .overlap = overlap}), 4);
      }
}

TEST(DistributedOptimizer, Pitfall01_OneSpectralStepPerMatrixHoweverManyMicroBatches) {
  const Result reference = train({.ranks = 1, .passes = 1});
  for (int ranks : {1, 2})
    for (int zero : {0, 1, 2, 3})
      for (int passes : {1, 2, 4}) {
        const Result result = train({.ranks = ranks, .zero = zero, .passes = passes});
        expect_equal_weights(reference, result, 4);
        EXPECT_EQ(result.spectral_calls,
                  (std::map<std::string, int>{{"a.weight", 4}, {"b.weight", 4}, {"c.weight", 4}, {"d.weight", 4}}));
      }
}

TEST(DistributedOptimizer, Pitfall18_MicroBatchesAndRanksAverageAlike) {
  expect_equal_weights(train({.ranks = 1, .passes = 8}), train({.ranks = 8, .passes = 1}), 4);
}

TEST(DistributedOptimizer, Pitfall25_NormIsTheSameAtEveryStageAndWorldSize) {
  const Result reference = train({.ranks = 1, .zero = 0});
  for (int ranks : {1, 2, 3, 4})
    for (int zero : {0, 1, 2, 3}) {
      const Result result = train({.ranks = ranks, .zero = zero});
      for (std::size_t s = 0; s < result.norms.size(); ++s)
        EXPECT_NEAR(result.norms[s], reference.norms[s], 16 * 0x1p-24 * reference.norms[s]);
    }
}

TEST(DistributedOptimizer, Pitfall12_ClippingActsOnTheGradientNotOnTheUpdate) {
  // A constant gradient scale leaves a scale-free update as it is; clipping the update would shrink it.
  Training clipped{.ranks = 2, .steps = 1}, open{.ranks = 2, .steps = 1};
  clipped.config.clip = 1e-3;
  open.config.clip = 0;
  clipped.config.others.rule = open.config.others.rule = AnyRule("adamw");
  clipped.config.others.rule.as<AdamW>().eps = open.config.others.rule.as<AdamW>().eps = 1e-30;
  expect_equal_weights(train(open), train(clipped), 1);
}

TEST(DistributedOptimizer, Pitfall13_OneRanksNanSkipsTheStepEverywhere) {
  for (int zero : {0, 1, 2, 3})
    for (float bad : {NAN, INFINITY})
      run_on_devices(3, [&](dist::Communicator& communicator, core::Device& device) {
        Model model;
        DistributedOptimizer optimizer(device, model.list, small_config(), options_of({.zero = zero}), communicator);
        optimizer.initialize(3);
        backward(model, optimizer, communicator.rank(), 3, 1, 0, sample_gradient);
        optimizer.step(1);
        const std::vector<float> before = snapshot(optimizer), weights = weights_of(model, optimizer);
        backward(model, optimizer, communicator.rank(), 3, 1, 1, [&](int p, std::int64_t i, std::int64_t s, int k) {
          return communicator.rank() == 1 && p == 3 && i == 17 ? bad : sample_gradient(p, i, s, k);
        });
        const StepReport report = optimizer.step(1);
        EXPECT_TRUE(report.skipped);
        EXPECT_EQ(optimizer.steps(), 1);
        const std::vector<float> after = snapshot(optimizer), weights_after = weights_of(model, optimizer);
        EXPECT_EQ(std::memcmp(before.data(), after.data(), 4 * before.size()), 0);
        EXPECT_EQ(std::memcmp(weights.data(), weights_after.data(), 4 * weights.size()), 0);
        backward(model, optimizer, communicator.rank(), 3, 1, 2, sample_gradient);
        EXPECT_FALSE(optimizer.step(1).skipped);
      });
}

TEST(DistributedOptimizer, Pitfall27_AllocatedBytesEqualThePlan) {
  for (int ranks : {1, 2, 3, 4})
    for (int zero : {0, 1, 2, 3})
      run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
        Model model;
        const Training run{.ranks = ranks, .zero = zero};
        DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), communicator);
        optimizer.initialize(3);
        backward(model, optimizer, communicator.rank(), ranks, 1, 0, sample_gradient);
        optimizer.step(1);
        const ExecutionPlan::Bytes planned = optimizer.plan().bytes(communicator.rank());
        const core::MemoryUse used = device.allocator()->use();
        EXPECT_EQ(used.peak_of(core::Category::weights), planned.weights);
        EXPECT_EQ(used.peak_of(core::Category::gradients), planned.gradients) << ranks << " ranks, stage " << zero;
        EXPECT_EQ(used.peak_of(core::Category::optimizer), planned.optimizer);
        EXPECT_LE(used.peak_of(core::Category::exchange), planned.exchange * 102 / 100);
      });
}

TEST(DistributedOptimizer, Pitfall26_BytesSentEqualThePlan) {
  for (int ranks : {2, 3, 4})
    for (int zero : {0, 1, 2, 3}) {
      std::mutex mutex;
      double total = 0, planned = 0, skipped = 0, planned_skipped = 0;
      run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
        dist::Recording recording(communicator);
        Model model;
        const Training run{.ranks = ranks, .zero = zero};
        DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), recording);
        optimizer.initialize(3);
        recording.clear();
        backward(model, optimizer, communicator.rank(), ranks, 1, 0, sample_gradient);
        optimizer.step(1);
        using dist::OperationKind;
        const auto bytes = [&] {
          double sum = 0;
          for (const auto kind : {OperationKind::reduce_scatter, OperationKind::all_gather, OperationKind::exchange,
                                  OperationKind::all_reduce})
            sum += static_cast<double>(recording.total(kind).bytes);
          return sum;
        };
        const double whole = bytes();
        recording.clear();
        backward(model, optimizer, communicator.rank(), ranks, 1, 1, [](auto...) { return NAN; });
        EXPECT_TRUE(optimizer.step(1).skipped);
        std::lock_guard lock(mutex);
        total += whole;
        skipped += bytes();
        planned = optimizer.plan().bytes_sent_per_step();
        planned_skipped = optimizer.plan().bytes_sent_by_passes(1);
      });
      EXPECT_NEAR(total / ranks, planned, 1e-9 * planned) << ranks << " ranks, stage " << zero;
      EXPECT_NEAR(skipped / ranks, planned_skipped, 1e-9 * planned) << ranks << " ranks, stage " << zero;
      EXPECT_LT(planned_skipped, planned);
    }
}

namespace {

// Every operation takes a while; whether gradients and weights are still there after it.
class Slow final : public dist::Decorator {
 public:
  Slow(dist::Communicator& inner, core::Device& device) : Decorator(inner), device_(device) {}
  static constexpr std::chrono::milliseconds kTime{30};
  std::atomic<int> calls = 0, orphans = 0;

 private:
  bool before(const dist::Operation&) override {
    ++calls;
    std::this_thread::sleep_for(kTime);
    const core::MemoryUse use = device_.allocator()->use();
    if (use.of(core::Category::gradients) == 0 || use.of(core::Category::weights) == 0) ++orphans;
    return true;
  }
  core::Device& device_;
};

}  // namespace

// The buffers, and the objects that its work calls, outlive the thread that communicates.
TEST(DistributedOptimizer, Pitfall31_AnExceptionInAPassLetsWhatIsUnderWayEndFirst) {
  for (const int zero : {0, 1, 2, 3})
    for (const int bad : {5, 3, 1}) {
      std::atomic<int> orphans = 0;
      const auto body = [&](dist::Communicator& communicator, core::Device& device) {
        Slow slow(communicator, device);
        const struct Count {
          std::atomic<int>& to;
          Slow& of;
          ~Count() { to += of.orphans; }
        } count{orphans, slow};
        Model model;
        const ParallelOptions options = options_of({.zero = zero, .overlap = true});
        DistributedOptimizer optimizer(device, model.list, small_config(), options, slow);
        optimizer.initialize(3);
        slow.orphans = 0;  // of the first agreement, before there was anything
        backward(model, optimizer, communicator.rank(), 2, 1, 0, [&](int p, std::int64_t i, std::int64_t s, int k) {
          if (p == bad) {
            for (core::Parameter& parameter : model.parameters)
              parameter.gradient = core::Tensor();  // the optimizer's alone
            core::fail("the backward pass has failed");
          }
          return sample_gradient(p, i, s, k);
        });
      };
      EXPECT_THROW(run_on_devices(2, body), core::Error);
      EXPECT_EQ(orphans, 0) << "stage " << zero << ", parameter " << bad;
    }
}

// Standing still for messages is counted wherever it happens; nothing else is.
TEST(DistributedOptimizer, CommunicationIsWhatThisRankStandsStillFor) {
  for (const int zero : {0, 1, 2, 3})
    run_on_devices(1, [&](dist::Communicator& communicator, core::Device& device) {
      Slow slow(communicator, device);
      Model model;
      DistributedOptimizer optimizer(device, model.list, small_config(), options_of({.zero = zero}), slow);
      optimizer.initialize(3);
      const auto nap = [] { std::this_thread::sleep_for(2 * Slow::kTime); };
      optimizer.observe_inputs([&](const std::string&, const core::Tensor&) { nap(); });
      const auto seconds = [](auto time) { return std::chrono::duration<double>(time).count(); };
      const auto start = std::chrono::steady_clock::now();
      optimizer.take_waits();
      slow.calls = 0;
      backward(model, optimizer, 0, 1, 1, 0);
      const double in_pass = core::seconds(optimizer.take_waits());
      EXPECT_GE(in_pass, 0.95 * slow.calls * seconds(Slow::kTime));
      slow.calls = 0;
      optimizer.prepare();
      nap();  // the caller decides
      const StepReport report = optimizer.apply(1);
      EXPECT_GE(report.communication_seconds, 0.95 * slow.calls * seconds(Slow::kTime));
      EXPECT_GE(report.spectral_seconds, 0.95 * 4 * seconds(2 * Slow::kTime));
      const double whole = seconds(std::chrono::steady_clock::now() - start), judged = seconds(2 * Slow::kTime);
      EXPECT_LE(in_pass + report.communication_seconds + report.spectral_seconds + 0.95 * judged, whole);
    });
}

namespace {

// A rule whose author forgot what makes it move.
class Idle final : public Rule {
 public:
  explicit Idle(bool whole_matrices) : whole_matrices_(whole_matrices) {}
  std::unique_ptr<Rule> clone() const override { return std::make_unique<Idle>(*this); }
  std::string_view name() const override { return "idle"; }
  std::string_view source() const override { return "this test"; }
  std::string_view published_lr() const override { return "none"; }
  void describe(core::Fields&) override {}
  void validate(const std::string&) const override {}
  std::vector<StateSpec> states() const override { return {}; }
  Needs needs() const override { return {.whole_matrices = whole_matrices_}; }

 private:
  bool whole_matrices_;
};

}  // namespace

TEST(DistributedOptimizer, Pitfall02_ARuleThatIsNotDispatchedIsAnError) {
  for (const bool matrices : {true, false})
    for (const bool compressed : {true, false})
      run_on_devices(1, [&](dist::Communicator& communicator, core::Device& device) {
        Model model;
        OptimizerConfig config = small_config();
        (matrices ? config.matrices : config.others).rule = AnyRule(std::make_unique<Idle>(matrices));
        ParallelOptions options = options_of({});
        options.compression = parse_compression(compressed ? "natural" : "none", compressed ? "natural" : "none",
                                                compressed ? "int8" : "none");
        try {
          DistributedOptimizer optimizer(device, model.list, config, options, communicator);
          optimizer.initialize(1);
          backward(model, optimizer, 0, 1, 1, 0, sample_gradient);
          optimizer.step(1);
          ADD_FAILURE() << "'idle' was taken for something else";
        } catch (const std::exception& error) {
          EXPECT_NE(std::string(error.what()).find("idle does not move"), std::string::npos) << error.what();
        }
      });
}

TEST(DistributedOptimizer, Pitfall36_Pitfall37_StateOf4RanksOpensBitEqualAtOthers) {
  // What 4 ranks hold, assembled by name, against what N ranks hold after loading it; then the next step
  // agrees.
  std::map<std::string, std::vector<float>> stored;
  std::mutex mutex;
  std::vector<float> next;
  const auto advance = [&](Model& model, DistributedOptimizer& optimizer, dist::Communicator& c, std::int64_t step) {
    backward(model, optimizer, c.rank(), c.size(), 1, step, sample_gradient);
    optimizer.step(1);
  };
  run_on_devices(4, [&](dist::Communicator& c, core::Device& device) {
    Model model;
    DistributedOptimizer optimizer(device, model.list, small_config(), options_of({.zero = 1}), c);
    optimizer.initialize(3);
    for (int s = 0; s < 3; ++s) advance(model, optimizer, c, s);
    {
      std::lock_guard lock(mutex);
      for (const StateTensor& t : optimizer.state_to_save()) {
        auto& whole = stored[t.name];
        whole.resize(static_cast<std::size_t>(core::element_count(t.shape)), NAN);
        std::ranges::copy(values_of(t.data), whole.begin() + t.interval.begin);
      }
    }
    c.barrier();
    advance(model, optimizer, c, 3);
    const std::vector<float> weights = weights_of(model, optimizer);
    if (c.rank() == 0) next = weights;
  });
  for (const auto& [name, values] : stored)
    for (float v : values) ASSERT_FALSE(std::isnan(v)) << name << " has elements that no rank saved";
  for (int ranks : {1, 2, 3, 6})
    for (int zero : {0, 1, 2, 3})
      run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
        Model model;
        DistributedOptimizer optimizer(device, model.list, small_config(), options_of({.zero = zero}), c);
        optimizer.load_state(3, [&](const StateTensor& t) {
          const auto begin = stored.at(t.name).begin() + t.interval.begin;
          set_values(t.data, std::vector<float>(begin, begin + t.data.size()));
        });
        optimizer.require_equal_weights();  // they are gathered after a load
        for (const auto& [name, values] : named_weights(model, optimizer)) {
          if (values.empty()) continue;
          ASSERT_EQ(values, stored.at(name + "/master")) << name;
        }
        for (const StateTensor& t : optimizer.state_to_save()) {
          const std::string bytes = bytes_of(t.data);
          ASSERT_EQ(0, std::memcmp(bytes.data(), stored.at(t.name).data() + t.interval.begin, bytes.size()));
        }
        advance(model, optimizer, c, 3);
        const std::vector<float> weights = weights_of(model, optimizer);
        for (std::size_t i = 0; i < weights.size(); ++i)
          ASSERT_NEAR(weights[i], next[i], 160 * 0x1p-24 * (1 + std::fabs(next[i])));
      });
}

TEST(DistributedOptimizer, Pitfall04_TheRecurrenceSeesWholeMatricesNotShards) {
  for (int zero : {0, 1, 2, 3})
    run_on_devices(3, [&](dist::Communicator& c, core::Device& device) {
      Model model;
      DistributedOptimizer optimizer(device, model.list, small_config(), options_of({.zero = zero}), c);
      optimizer.observe_inputs([&](const std::string& name, const core::Tensor& input) {
        for (const core::Parameter* p : model.list) {
          if (p->name == name) {
            EXPECT_EQ(input.shape(), p->shape);
          }
        }
      });
      optimizer.initialize(3);
      backward(model, optimizer, c.rank(), 3, 1, 0, sample_gradient);
      optimizer.step(1);
    });
}

// Stage 3 has no replicas.
TEST(DistributedOptimizer, Pitfall19_AReplicaThatDriftsIsNoticedOnAllRanks) {
  for (int zero : {0, 1, 2})
    EXPECT_THROW(run_on_devices(3,
                                [&](dist::Communicator& c, core::Device& device) {
                                  Model model;
                                  DistributedOptimizer optimizer(device, model.list, small_config(),
                                                                 options_of({.zero = zero}), c);
                                  optimizer.initialize(3);
                                  optimizer.require_equal_weights();
                                  if (c.rank() == 2) {
                                    const core::Tensor& w = model.parameters[3].value;
                                    set_value(w, 7, std::nextafter(value_of(w, 7), 10.0f));
                                  }
                                  optimizer.require_equal_weights();
                                }),
                 core::Error);
}

TEST(DistributedOptimizer, Pitfall24_DifferentPlansAreAnErrorThatNamesTheDifference) {
  try {
    run_on_devices(3, [](dist::Communicator& c, core::Device& device) {
      Model model;
      OptimizerConfig config = small_config();
      if (c.rank() == 2) config.matrices.lr = 0.5;
      DistributedOptimizer optimizer(device, model.list, config, options_of({}), c);
    });
    FAIL() << "plans that differ were accepted";
  } catch (const core::Error& error) {
    EXPECT_NE(std::string(error.what()).find("lr 0.5"), std::string::npos) << error.what();
  }
}

TEST(DistributedOptimizer, Pitfall15_ADivergedRecurrenceIsNamedAndDoesNotReachTheWeights) {
  // Nearly rank one with σ/‖G‖ in (0.725, 0.999): bivariate at p = 1/2 blows up there.
  run_on_devices(1, [](dist::Communicator& c, core::Device& device) {
    Model model;
    OptimizerConfig config = small_config();
    config.matrices.rule.as<Muonp>().method = "bivariate";
    DistributedOptimizer optimizer(device, model.list, config, options_of({}), c);
    optimizer.initialize(3);
    const std::vector<float> before = weights_of(model, optimizer);
    backward(model, optimizer, 0, 1, 1, 0, [](int p, std::int64_t i, std::int64_t, int) {
      return p == 5 && i % 8 == 0 ? (i == 0 ? 1.0f : 0.2f) : (p == 5 ? 0.0f : sample_gradient(p, i, 0, 0));
    });
    try {
      optimizer.step(1);
      FAIL() << "the divergence was not noticed";
    } catch (const core::Error& error) {
      EXPECT_NE(std::string(error.what()).find("d.weight"), std::string::npos) << error.what();
    }
    const std::vector<float> after = weights_of(model, optimizer);
    const std::size_t begin = before.size() - 49;  // d.weight
    EXPECT_EQ(0, std::memcmp(before.data() + begin, after.data() + begin, 49 * 4));
  });
}

TEST(DistributedOptimizer, Pitfall22_IntegerGradientsGiveBitEqualMomentumAtPowersOfTwo) {
  // Sums of integers are exact, and so is the mean over a power of two.
  const SampleGradient integers = [](int p, std::int64_t i, std::int64_t step, int sample) {
    return static_cast<float>((p * 5 + i * 3 + step + sample * 7) % 11 - 5) * kSamples;
  };
  std::map<std::string, std::vector<float>> reference;
  for (int ranks : {1, 2, 4, 8}) {
    std::map<std::string, std::vector<float>> seen;
    std::mutex mutex;
    run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
      Model model;
      OptimizerConfig config = small_config();
      config.clip = 0;
      config.matrices.rule.as<Muonp>().momentum_form = "heavy_ball";
      config.matrices.rule.as<Muonp>().momentum = 0.5;
      config.matrices.rule.as<Muonp>().nesterov = false;
      DistributedOptimizer optimizer(device, model.list, config, options_of({.zero = 1 + ranks % 2}), c);
      optimizer.observe_inputs([&](const std::string& name, const core::Tensor& input) {
        std::lock_guard lock(mutex);
        auto& all = seen[name];
        const std::vector<float> values = values_of(input);
        all.insert(all.end(), values.begin(), values.end());
      });
      optimizer.initialize(3);
      for (std::int64_t step = 0; step < 3; ++step) {
        backward(model, optimizer, c.rank(), ranks, 1, step, integers);
        optimizer.step(1);
      }
    });
    if (ranks == 1) reference = seen;
    EXPECT_EQ(seen, reference) << ranks << " ranks";
  }
}
