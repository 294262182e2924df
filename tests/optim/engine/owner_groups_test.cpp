// Matrices that ranks share: the weights of whole owners to rounding, at every stage and world size, and what is sent and
// allocated as planned.
#include <gmock/gmock.h>

#include <cmath>
#include <mutex>

#include "core/base/error.h"
#include "dist/comm/decorators.h"
#include "optim/rules/muonp.h"
#include "tests/optim/engine/small_model.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;

namespace {

struct Training {
  int ranks = 1, zero = 1, steps = 4;
  bool overlap = false;
  dist::Owners owners = dist::Owners::groups;
  OptimizerConfig config = small_config();
};

ParallelOptions options_of(const Training& run) {
  return {.zero = run.zero, .bucket_elements = 100, .wave_elements = 80, .overlap = run.overlap, .owners = run.owners};
}

std::vector<float> train(const Training& run) {
  std::vector<float> result;
  std::mutex mutex;
  run_on_devices(run.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    SmallModel model;
    DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), communicator);
    optimizer.initialize(3);
    for (std::int64_t step = 0; step < run.steps; ++step) {
      backward(model, optimizer, communicator.rank(), run.ranks, 1, step);
      optimizer.step(1.0);
      optimizer.require_equal_weights();
    }
    std::vector<float> weights = weights_of(model, optimizer);
    const std::lock_guard lock(mutex);
    if (communicator.rank() == 0) result = std::move(weights);
  });
  return result;
}

// As sums of float32 in another order (distributed_optimizer_test.cpp).
void expect_equal_weights(const std::vector<float>& a, const std::vector<float>& b, int steps) {
  const double tolerance = 10 * steps * 16 * 0x1p-24;
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance * (1 + std::fabs(a[i]))) << "element " << i;
}

// Parts above each other of a, beside each other of b.
OptimizerConfig split_config() {
  OptimizerConfig config = small_config();
  config.matrices.splits = {
      {.name = "ab", .pattern = "a.weight", .parts = {"a", "b"}},
      {.name = "cd", .pattern = "b.weight", .axis = "columns", .parts = {"c", "d"}, .sizes = {"5", "7"}}};
  return config;
}

}  // namespace

TEST(OwnerGroups, EveryStageAndWorldSizeGivesTheWeightsOfWholeOwners) {
  const std::vector<float> reference = train({.zero = 0, .owners = dist::Owners::whole});
  for (int ranks : {1, 2, 3, 4})
    for (int zero : {0, 1, 2, 3})
      for (bool overlap : {false, true})
        for (const auto owners : {dist::Owners::groups, dist::Owners::automatic}) {
          if (overlap && owners == dist::Owners::automatic) continue;
          SCOPED_TRACE(fmt::format("{} ranks, stage {}, overlap {}", ranks, zero, overlap));
          expect_equal_weights(reference, train({.ranks = ranks, .zero = zero, .overlap = overlap, .owners = owners}), 4);
        }
}

TEST(OwnerGroups, PartsOfASplitAreMatricesOfTheirOwn) {
  const std::vector<float> reference = train({.zero = 0, .owners = dist::Owners::whole, .config = split_config()});
  EXPECT_NE(reference, train({.zero = 0, .owners = dist::Owners::whole}));
  for (int ranks : {2, 3})
    for (int zero : {0, 1, 3})
      expect_equal_weights(reference, train({.ranks = ranks, .zero = zero, .config = split_config()}), 4);
}

TEST(OwnerGroups, EveryScaleThatIsSharedAndTheOneThatIsNot) {
  for (const char* scale : {"match_rms", "rms1", "schatten", "aspect", "none", "spectral"}) {
    Training run{.ranks = 2};
    run.config.matrices.rule.as<Muonp>().scale = scale;
    Training whole = run;
    whole.ranks = 1;
    expect_equal_weights(train(whole), train(run), 4);
  }
}

namespace {

int shared_of(const ExecutionPlan& plan) {
  int shared = 0;
  for (int t = 0; t < core::to_int(plan.owners.tasks().size()); ++t) shared += plan.owners.is_shared(t);
  return shared;
}

ExecutionPlan plan_of(const Training& run, ParallelOptions options) {
  const SmallModel model;
  return make_execution_plan(model.list, run.config, options, run.ranks);
}

}  // namespace

TEST(OwnerGroups, RulesMethodsAndMeasurementsThatNeedWholeMatricesHaveWholeOwners) {
  Training run{.ranks = 2};
  EXPECT_EQ(shared_of(plan_of(run, options_of(run))), 3);  // all but one of a single row
  ParallelOptions options = options_of(run);
  options.spectra = {"a.*"};
  EXPECT_EQ(shared_of(plan_of(run, options)), 2);
  Training svd = run, scale = run, normuon = run, whole = run;
  svd.config.matrices.rule.as<Muonp>().method = "svd";
  scale.config.matrices.rule.as<Muonp>().scale = "spectral";
  normuon.config.matrices.rule = AnyRule("normuon");
  whole.owners = dist::Owners::whole;
  for (const Training& of : {svd, scale, normuon, whole}) EXPECT_EQ(shared_of(plan_of(of, options_of(of))), 0);
}

TEST(OwnerGroups, CompressionIsRefused) {
  const Training run{.ranks = 2};
  ParallelOptions options = options_of(run);
  options.compression = parse_compression("int8", "int8", "none");
  EXPECT_THAT([&] { plan_of(run, options); },
              testing::ThrowsMessage<core::Error>(testing::HasSubstr("parallel.owners: groups with compression")));
  options.owners = dist::Owners::automatic;
  EXPECT_EQ(shared_of(plan_of(run, options)), 0);
}

TEST(OwnerGroups, BytesSentAndAllocatedAreThoseOfThePlan) {
  for (int ranks : {2, 3, 4})
    for (int zero : {0, 1, 2, 3}) {
      std::mutex mutex;
      double total = 0, planned = 0;
      run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
        dist::Recording recording(communicator);
        SmallModel model;
        const Training run{.ranks = ranks, .zero = zero};
        DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), recording);
        optimizer.initialize(3);
        recording.clear();
        backward(model, optimizer, communicator.rank(), ranks, 1, 0);
        optimizer.step(1);
        const std::lock_guard lock(mutex);
        for (const auto kind : {dist::OperationKind::reduce_scatter, dist::OperationKind::all_gather,
                                dist::OperationKind::exchange, dist::OperationKind::all_reduce})
          total += static_cast<double>(recording.total(kind).bytes);
        planned = optimizer.plan().bytes_sent_per_step();
        const core::MemoryUse used = device.allocator()->use();
        const ExecutionPlan::Bytes bytes = optimizer.plan().bytes(communicator.rank());
        EXPECT_EQ(used.peak_of(core::Category::optimizer), bytes.optimizer);
        EXPECT_LE(used.peak_of(core::Category::exchange), bytes.exchange) << ranks << " ranks, stage " << zero;
      });
      EXPECT_NEAR(total / ranks, planned, 1e-9 * planned) << ranks << " ranks, stage " << zero;
    }
}

// What is saved does not depend on who owns what.
TEST(OwnerGroups, AStateOfGroupsGoesOnWithWholeOwnersAtAnotherWorldSizeAndBack) {
  for (const bool first_groups : {true, false}) {
    std::map<std::string, std::vector<float>> saved;
    std::mutex mutex;
    const auto run_of = [&](int ranks, bool groups) {
      return Training{.ranks = ranks, .owners = groups ? dist::Owners::groups : dist::Owners::whole};
    };
    const Training first = run_of(4, first_groups);
    run_on_devices(4, [&](dist::Communicator& communicator, core::Device& device) {
      SmallModel model;
      DistributedOptimizer optimizer(device, model.list, first.config, options_of(first), communicator);
      optimizer.initialize(3);
      for (std::int64_t step = 0; step < 2; ++step) {
        backward(model, optimizer, communicator.rank(), 4, 1, step);
        optimizer.step(1);
      }
      const std::lock_guard lock(mutex);
      for (const StateTensor& t : optimizer.state_to_save()) {
        std::vector<float>& whole = saved[t.name];
        whole.resize(static_cast<std::size_t>(core::element_count(t.shape)), NAN);
        std::ranges::copy(values_of(t.data), whole.begin() + t.interval.begin);
      }
    });
    const Training second = run_of(3, !first_groups);
    std::vector<float> weights;
    run_on_devices(3, [&](dist::Communicator& communicator, core::Device& device) {
      SmallModel model;
      DistributedOptimizer optimizer(device, model.list, second.config, options_of(second), communicator);
      optimizer.initialize(5);
      optimizer.load_state(2, [&](const StateTensor& t) {
        const std::vector<float>& whole = saved.at(t.name);
        set_values(t.data, std::vector(whole.begin() + t.interval.begin, whole.begin() + t.interval.end));
      });
      for (std::int64_t step = 2; step < 4; ++step) {
        backward(model, optimizer, communicator.rank(), 3, 1, step);
        optimizer.step(1);
      }
      std::vector<float> all = weights_of(model, optimizer);
      const std::lock_guard lock(mutex);
      if (communicator.rank() == 0) weights = std::move(all);
    });
    expect_equal_weights(train({.owners = dist::Owners::whole}), weights, 4);
  }
}
