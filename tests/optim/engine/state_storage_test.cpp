// States in fewer bits, in the engine: a step with them is, bit for bit, the step of a float32 optimizer whose states were
// rounded after the step before, for every rule, at every world size and ZeRO stage, compressed and resumed; and memory and
// checkpoints are what the plan says.
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "core/base/error.h"
#include "tests/optim/engine/small_model.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;

namespace {

using Values = std::map<std::string, std::vector<float>>;

constexpr int kSteps = 3;

// Parameters of several blocks, which ranks cut where they may.
struct BlockModel : SmallModel {
  BlockModel() {
    using core::ParameterKind;
    parameters.clear();
    list.clear();
    const auto add = [this](const char* name, core::Shape shape, ParameterKind kind) {
      parameters.push_back({name, std::move(shape), kind, {core::Initializer::Kind::normal, 0.5}, {}, {}});
    };
    add("embedding", {61, 11}, ParameterKind::embedding);
    add("a.weight", {24, 35}, ParameterKind::matrix);
    add("a.bias", {24}, ParameterKind::vector);
    add("b.weight", {13, 21}, ParameterKind::matrix);
    add("empty", {0, 3}, ParameterKind::matrix);
    for (core::Parameter& p : parameters) list.push_back(&p);
  }
};

struct Setting {
  int ranks = 1, zero = 1;
  std::string dtype = "int8", rounding = "stochastic";
  bool compressed = false, offload = false;
  core::Dtype weights = core::Dtype::float32;
  std::string estimates = "float32";  // of what compression keeps
};

AnyRule rule_of(std::string_view name) {
  AnyRule rule(name);
  if (auto* keys = dynamic_cast<SpectralKeys*>(&*rule)) keys->dtype = "float32";  // on GPUs too
  return rule;
}

void keep_in(GroupConfig& group, const Setting& run) {
  const auto states = group.rule->states_of(Home::shard);
  if (std::ranges::all_of(states, [](const StateSpec& s) { return s.content == Content::exact; })) return;
  group.state_dtype = run.dtype;
  group.state_rounding = run.rounding;
}

OptimizerConfig config_of(std::string_view rule, const Setting& run) {
  OptimizerConfig config = small_config();
  config.matrices.rule = rule_of(rule);
  config.matrices.weight_decay = 0.25;
  if (!config.matrices.whole_matrices()) config.others.rule = config.matrices.rule;
  keep_in(config.matrices, run);
  keep_in(config.others, run);
  return config.for_run(2 * kSteps);
}

ParallelOptions options_of(const Setting& run) {
  ParallelOptions options{.zero = run.zero, .bucket_elements = 700, .wave_elements = 600};
  options.offload = run.offload;
  options.weight_dtype = run.weights;
  if (run.compressed) options.compression = parse_compression("top_k 0.3", "int8", "int8", run.estimates);
  return options;
}

// One rank's optimizer, and what it knows of a state by its name.
class Optimizer {
 public:
  Optimizer(std::string_view rule, const Setting& run, dist::Communicator& communicator, core::Device& device)
      : communicator_(communicator),
        device_(device),
        optimizer(device, model.list, config_of(rule, run), options_of(run), communicator) {}

  void advance(int from, int to) {
    for (int step = from; step < to; ++step) one_step(step);
  }
  // The same in float32, rounding the states of `as` after each step.
  void advance_rounding(int from, int to, const Groups& as) {
    for (int step = from; step < to; ++step) {
      one_step(step);
      round(step + 1, as, /*nearest=*/false);
    }
  }
  void round(int step, const Groups& as, bool nearest) {
    optimizer.load_state(step, [&](const StateTensor& t) {
      const Storage storage = storage_of(t.name, as);
      if (!storage.narrow()) return;
      const StoredState state(device_, storage, t.name, t.interval.begin, t.data.size(), false);
      const core::Tensor copy = core::Tensor::empty(device_, t.data.shape(), core::Dtype::float32, core::Category::other);
      copy.copy_from(device_.queue(), t.data);
      nearest ? state.encode_nearest(device_.queue(), copy) : state.encode(device_.queue(), copy, step);
      state.decode(device_.queue(), t.data);
    });
  }
  Values states() const {
    Values all;
    for (const StateTensor& t : optimizer.state_to_save()) {
      std::vector<float>& values = all[fmt::format("{}@{}", t.name, t.interval.begin)];
      values.resize(static_cast<std::size_t>(t.interval.count()));
      t.read(device_, values.data());
    }
    return all;
  }
  Values weights() { return named_weights(model, optimizer); }
  void load(int steps, const Values& whole) {
    optimizer.load_state(steps, [&](const StateTensor& t) {
      t.write(device_, [&](const StateTensor& part, float* to) {
        std::copy_n(whole.at(part.name).begin() + part.interval.begin, part.interval.count(), to);
      });
    });
  }

 private:
  void one_step(int step) {
    backward(model, optimizer, communicator_.rank(), communicator_.size(), 1, step);
    ASSERT_FALSE(optimizer.step(1, {.loss = 1.5}).skipped);
    optimizer.require_equal_weights();
  }
  Storage storage_of(const std::string& name, const Groups& groups) const {
    const std::size_t slash = name.rfind('/');
    const std::string state = name.substr(slash + 1, name.find('#', slash) - slash - 1);
    for (int p = 0; p < static_cast<int>(model.list.size()); ++p) {
      if (model.list[std::size_t(p)]->name != name.substr(0, slash)) continue;
      const GroupConfig& group = groups.group_for(p).config;
      const std::vector<StateSpec> specs = group.rule->states_of(Home::shard);
      for (std::size_t s = 0; s < specs.size(); ++s)
        if (specs[s].name == state) return group.storages()[s];
    }
    return {};
  }

  dist::Communicator& communicator_;
  core::Device& device_;

 public:
  BlockModel model;
  DistributedOptimizer optimizer;
};

Setting in_float32(Setting run) {
  run.dtype = "float32";
  run.offload = false;
  return run;
}

// What all ranks hold, assembled.
void gather(std::mutex& mutex, const Values& of_rank, const DistributedOptimizer& optimizer, Values& whole) {
  const std::lock_guard lock(mutex);
  for (const StateTensor& t : optimizer.state_to_save()) {
    std::vector<float>& values = whole[t.name];
    values.resize(static_cast<std::size_t>(core::element_count(t.shape)), NAN);
    std::ranges::copy(of_rank.at(fmt::format("{}@{}", t.name, t.interval.begin)), values.begin() + t.interval.begin);
  }
}

std::vector<std::string> narrow_rules() {
  std::vector<std::string> names;
  for (const std::string_view name : rule_names())
    if (std::ranges::any_of(AnyRule(name)->states_of(Home::shard),
                            [](const StateSpec& s) { return s.content != Content::exact; }))
      names.emplace_back(name);
  return names;
}

class StateStorage : public testing::TestWithParam<std::string> {};

void expect_rounded_steps(const std::string& rule, const Setting& run) {
  SCOPED_TRACE(fmt::format("{} ranks, stage {}, {} {}", run.ranks, run.zero, run.dtype, run.rounding));
  run_on_devices(run.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    Optimizer narrow(rule, run, communicator, device), wide(rule, in_float32(run), communicator, device);
    narrow.optimizer.initialize(3);
    narrow.advance(0, kSteps);
    wide.optimizer.initialize(3);
    wide.advance_rounding(0, kSteps, narrow.optimizer.plan().groups);
    EXPECT_EQ(narrow.weights(), wide.weights());
    EXPECT_EQ(narrow.states(), wide.states());
  });
}

}  // namespace

TEST_P(StateStorage, IsAStepInFloat32WhoseStatesAreRounded) {
  for (const int ranks : {1, 2, 3, 4})
    for (const int zero : {0, 1, 2, 3})
      for (const char* dtype : {"bfloat16", "int8"})
        expect_rounded_steps(GetParam(), {.ranks = ranks, .zero = zero, .dtype = dtype});
  expect_rounded_steps(GetParam(), {.ranks = 2, .rounding = "nearest"});
  if (!on_gpu()) return;
  for (const char* dtype : {"bfloat16", "int8"})  // beside a float32 optimizer that keeps all on the device
    expect_rounded_steps(GetParam(), {.ranks = 2, .dtype = dtype, .offload = true, .weights = core::Dtype::bfloat16});
}

// The memory of a step at its highest, before it between steps, and a checkpoint's.
TEST_P(StateStorage, TakesWhatThePlanSays) {
  for (const int ranks : {1, 3})
    for (const int zero : {0, 1, 3})
      for (const char* dtype : {"float32", "bfloat16", "int8"})
        for (const core::Dtype weights : {core::Dtype::float32, core::Dtype::bfloat16})
          for (const bool offload : on_gpu() ? std::vector<bool>{false, true} : std::vector<bool>{false}) {
            const Setting run{.ranks = ranks, .zero = zero, .dtype = dtype, .offload = offload, .weights = weights};
            SCOPED_TRACE(fmt::format("{} ranks, stage {}, {}, offload {}", ranks, zero, dtype, offload));
            run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
              Optimizer o(GetParam(), run, communicator, device);
              o.optimizer.initialize(3);
              o.advance(0, 1);
              const ExecutionPlan& plan = o.optimizer.plan();
              const int rank = communicator.rank();
              EXPECT_EQ(device.allocator()->use().peak_of(core::Category::optimizer), plan.bytes(rank).optimizer);
              if (offload) {
                EXPECT_EQ(device.host_allocator()->use().of(core::Category::optimizer), plan.bytes(rank).host);
              }
              std::int64_t saved = 0;
              for (const StateTensor& t : o.optimizer.state_to_save()) saved += t.bytes();
              EXPECT_EQ(saved, plan.snapshot_bytes(rank));
              o.states();  // saving takes no more
              EXPECT_EQ(device.allocator()->use().peak_of(core::Category::optimizer), plan.bytes(rank).optimizer);
            });
          }
}

namespace {

// Of what all ranks held, this rank's part is what it holds.
void expect_held(const Values& whole, const Values& held) {
  for (const auto& [name, values] : held) {
    const std::size_t place = name.rfind('@');
    const auto begin = whole.at(name.substr(0, place)).begin() + std::stol(name.substr(place + 1));
    EXPECT_TRUE(std::equal(values.begin(), values.end(), begin)) << name;
  }
}

void expect_to_go_on(const std::string& rule, const Setting& setting) {
  std::mutex mutex;
  Values saved, later;
  run_on_devices(setting.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    Optimizer o(rule, setting, communicator, device);
    o.optimizer.initialize(3);
    o.advance(0, kSteps);
    gather(mutex, o.states(), o.optimizer, saved);
    o.advance(kSteps, kSteps + 2);
    gather(mutex, o.states(), o.optimizer, later);
  });
  run_on_devices(setting.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    Optimizer o(rule, setting, communicator, device);
    o.load(kSteps, saved);
    expect_held(saved, o.states());
    o.advance(kSteps, kSteps + 2);
    expect_held(later, o.states());
  });
}

}  // namespace

TEST_P(StateStorage, GoesOnBitForBitAtTheWorldSizeThatSaved) {
  for (const char* dtype : {"bfloat16", "int8"})
    for (const int zero : {0, 1, 3}) expect_to_go_on(GetParam(), {.ranks = 3, .zero = zero, .dtype = dtype});
}

// A step in float32 from what was saved, rounded once to the blocks that ranks have now; bfloat16 is as it was saved.
TEST_P(StateStorage, GoesOnAtAnotherWorldSizeFromWhatWasSaved) {
  for (const char* dtype : {"bfloat16", "int8"})
    for (const int zero : {0, 1, 3}) {
      std::mutex mutex;
      Values saved;
      run_on_devices(3, [&](dist::Communicator& communicator, core::Device& device) {
        Optimizer o(GetParam(), {.ranks = 3, .zero = zero, .dtype = dtype}, communicator, device);
        o.optimizer.initialize(3);
        o.advance(0, kSteps);
        gather(mutex, o.states(), o.optimizer, saved);
      });
      const Setting fewer{.ranks = 2, .zero = zero, .dtype = dtype};
      run_on_devices(2, [&](dist::Communicator& communicator, core::Device& device) {
        Optimizer narrow(GetParam(), fewer, communicator, device), wide(GetParam(), in_float32(fewer), communicator, device);
        narrow.load(kSteps, saved);
        wide.load(kSteps, saved);
        const Groups& groups = narrow.optimizer.plan().groups;
        if (fewer.dtype == "bfloat16") {
          EXPECT_EQ(narrow.states(), wide.states());
        }
        wide.round(kSteps, groups, /*nearest=*/true);
        EXPECT_EQ(narrow.states(), wide.states());
        narrow.advance(kSteps, kSteps + 2);
        wide.advance_rounding(kSteps, kSteps + 2, groups);
        EXPECT_EQ(narrow.weights(), wide.weights());
        EXPECT_EQ(narrow.states(), wide.states());
      });
    }
}

INSTANTIATE_TEST_SUITE_P(Rules, StateStorage, testing::ValuesIn(narrow_rules()), [](const auto& of) { return of.param; });

// Momenta and second moments are narrow there too. Estimates, which have a key of their own, are float32 here.
TEST(StateStorageCompressed, IsAStepInFloat32WhoseStatesAreRounded) {
  for (const char* rule : {"muonp", "muon", "auon", "normuon"})
    for (const int ranks : {1, 2, 3})
      for (const char* dtype : {"bfloat16", "int8"})
        expect_rounded_steps(rule, {.ranks = ranks, .dtype = dtype, .compressed = true});
}

TEST(StateStorageCompressed, TakesWhatThePlanSays) {
  for (const int ranks : {1, 2, 3})
    for (const char* dtype : {"bfloat16", "int8"})
      for (const core::Dtype weights : {core::Dtype::float32, core::Dtype::bfloat16})
        for (const std::string estimates : {"float32", dtype}) {
          const Setting run{.ranks = ranks, .dtype = dtype, .compressed = true, .weights = weights, .estimates = estimates};
          run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
            Optimizer o("muonp", run, communicator, device);
            o.optimizer.initialize(3);
            o.advance(0, 1);
            const ExecutionPlan& plan = o.optimizer.plan();
            const core::MemoryUse use = device.allocator()->use();
            EXPECT_EQ(use.peak_of(core::Category::optimizer), plan.bytes(communicator.rank()).optimizer);
            EXPECT_LE(use.peak_of(core::Category::exchange), plan.bytes(communicator.rank()).exchange);
            std::int64_t saved = 0;
            for (const StateTensor& t : o.optimizer.state_to_save()) saved += t.bytes();
            EXPECT_EQ(saved, plan.snapshot_bytes(communicator.rank()));
          });
        }
}

TEST(StateStorageCompressed, EstimatesGoOnBitForBit) {
  for (const char* estimates : {"bfloat16", "int8"})
    expect_to_go_on("muonp", {.ranks = 3, .dtype = "float32", .compressed = true, .estimates = estimates});
}

// The owner's G is off the mean of what ranks keep by their rounding errors, of which those of a round are at most half a
// step of bfloat16 in the root mean square, and of int8 √(M Σ|x|)/127 over a block (optim/storage/storage.h: a step at x =
// rM is about 2M√r/127); κ = 0.98 leaves those of 1/(1 − κ²) rounds. Kept for ever, those of 400 rounds would be four times
// as many.
TEST(StateStorageCompressed, TheOwnersMeanStaysNearWhatRanksKeep) {
  constexpr int kRounds = 400;
  for (const int ranks : {1, 3})
    for (const std::string estimates : {"bfloat16", "int8"}) {
      std::mutex mutex;
      Values held;
      run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
        const Setting run{.ranks = ranks, .dtype = "float32", .compressed = true, .estimates = estimates};
        Optimizer o("muonp", run, communicator, device);
        o.optimizer.initialize(3);
        o.advance(0, kRounds);
        gather(mutex, o.states(), o.optimizer, held);
      });
      for (const std::string name : {"embedding", "a.weight", "b.weight"}) {
        const std::vector<float>& mean = held.at(name + "/mean_estimate");
        double off = 0, squares = 0, sum = 0, most = 0;
        for (std::size_t i = 0; i < mean.size(); ++i) {
          double of_ranks = 0;  // their sum
          for (int r = 0; r < ranks; ++r) of_ranks += held.at(fmt::format("{}/estimate#{}", name, r))[i];
          const double x = mean[i];
          off += std::pow(x - of_ranks / ranks, 2);
          squares += x * x;
          sum += std::fabs(x);
          most = std::max(most, std::fabs(x));
        }
        const double of_round = estimates == "bfloat16" ? 0x1p-8 : std::sqrt(most * sum / squares) / 127;
        const double rounds = std::sqrt(1 / (1 - 0.98 * 0.98));
        EXPECT_LE(std::sqrt(off / squares), 1.5 * of_round * rounds) << name << " " << estimates << " " << ranks;
        EXPECT_GE(std::sqrt(off / squares), 0.1 * of_round * rounds / ranks) << name << " " << estimates << " " << ranks;
      }
    }
}

TEST(StateStoragePlan, CountsWhatAnElementTakes) {
  BlockModel model;
  const auto optimizer_bytes = [&](const char* dtype) {
    const Setting run{.ranks = 2, .zero = 1, .dtype = dtype};
    return make_execution_plan(model.list, config_of("adamw", run), options_of(run), 2).bytes(0).optimizer;
  };
  std::int64_t kept = 0, blocks = 0, largest = 0;
  const Setting run{.ranks = 2};
  const dist::ShardPlan shards = make_execution_plan(model.list, config_of("adamw", run), options_of(run), 2).shards;
  for (int p = 0; p < static_cast<int>(model.list.size()); ++p) {
    const dist::Interval mine = shards.piece(p, 0);
    kept += mine.count();
    blocks += state_blocks(mine.begin, mine.count());
    largest = std::max(largest, mine.count());
  }
  EXPECT_EQ(optimizer_bytes("float32"), 2 * 4 * kept);
  EXPECT_EQ(optimizer_bytes("bfloat16"), 2 * 2 * kept + 2 * 4 * largest);
  EXPECT_EQ(optimizer_bytes("int8"), 2 * (kept + 4 * blocks) + 2 * 4 * largest);
}

TEST(StateStoragePlan, RefusesRulesWithoutSuchStates) {
  BlockModel model;
  for (const char* rule : {"soap", "conda"}) {
    OptimizerConfig config = small_config();
    config.matrices.rule = rule_of(rule);
    config.matrices.state_dtype = "int8";
    try {
      make_execution_plan(model.list, config.for_run(3), {}, 1);
      ADD_FAILURE() << rule;
    } catch (const core::Error& error) {
      EXPECT_NE(
          std::string(error.what())
              .find(fmt::format("optimizer.matrices.state_dtype is int8, and {} keeps no momentum or second moment", rule)),
          std::string::npos)
          << error.what();
    }
  }
}
