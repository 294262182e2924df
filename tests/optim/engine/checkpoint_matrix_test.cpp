// Checkpoints between world sizes, ZeRO stages and bucket sizes, through files: what four ranks save at one
// stage is what one to five ranks have after opening it at another.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>

#include "core/base/rng.h"
#include "core/files/checkpoint_pieces.h"
#include "optim/engine/distributed_optimizer.h"
#include "optim/rules/muonp.h"
#include "tests/support/device_ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/zero_stages.h"

namespace muonp::test {
namespace {

using core::ParameterKind;
using optim::DistributedOptimizer;
using optim::StateTensor;

constexpr std::int64_t kSteps = 3;

// Matrices that straddle ranks, one row, one element, none; AdamW's two states for the rest.
struct Model {
  std::vector<core::Parameter> parameters;
  core::ParameterList list;
  Model() {
    const auto add = [this](const char* name, core::Shape shape, ParameterKind kind) {
      parameters.push_back({name, std::move(shape), kind, {core::Initializer::Kind::normal, 0.5}, {}, {}});
    };
    add("embedding", {19, 6}, ParameterKind::embedding);
    add("a.weight", {12, 6}, ParameterKind::matrix);
    add("a.bias", {12}, ParameterKind::vector);
    add("b.weight", {1, 12}, ParameterKind::matrix);
    add("c.weight", {1, 1}, ParameterKind::matrix);
    add("empty", {0, 3}, ParameterKind::matrix);
    add("d.weight", {23, 17}, ParameterKind::matrix);
    for (core::Parameter& p : parameters) list.push_back(&p);
  }
};

optim::OptimizerConfig config() {
  optim::OptimizerConfig config;
  config.matrices.lr = 0.02;
  config.matrices.rule.as<optim::Muonp>().dtype = "float32";  // on GPUs too
  config.others.lr = 0.01;
  return config;
}

optim::ParallelOptions options(int zero, std::int64_t bucket_elements) {
  return {.zero = zero, .bucket_elements = bucket_elements, .wave_elements = 200};
}

void train(Model& model, DistributedOptimizer& optimizer) {
  for (std::int64_t step = 0; step < kSteps; ++step) {
    optimizer.begin_pass(true, true);
    for (core::Parameter* p : model.list) optimizer.weights().acquire({{p}});
    for (std::size_t p = model.list.size(); p-- > 0;) {
      optimizer.weights().acquire({{model.list[p]}});
      const core::GradientSlot slot = optimizer.gradients().slot(*model.list[p]);
      std::vector<float> gradient(static_cast<std::size_t>(model.list[p]->size()));
      for (std::size_t i = 0; i < gradient.size(); ++i)
        gradient[i] = core::normal(7, p, static_cast<std::uint64_t>(step) * 4096 + i);
      set_values(slot.gradient, gradient);
      optimizer.gradients().complete(*model.list[p]);
    }
    optimizer.step(1);
  }
}

// Whole tensors, assembled from what the ranks hold.
class Gathered {
 public:
  void add(const std::vector<StateTensor>& tensors) {
    const std::lock_guard lock(mutex_);
    for (const StateTensor& t : tensors) {
      std::vector<float>& whole = whole_[t.name];
      whole.resize(static_cast<std::size_t>(core::element_count(t.shape)), NAN);
      std::ranges::copy(values_of(t.data), whole.begin() + t.interval.begin);
    }
  }
  const std::map<std::string, std::vector<float>>& tensors() const { return whole_; }
  // NaN, which equals nothing, is what no rank holds.
  bool operator==(const Gathered& other) const { return whole_ == other.whole_; }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<float>> whole_;
};

void save(dist::Communicator& c, core::Device& device, const DistributedOptimizer& optimizer, const std::string& directory) {
  static std::mutex mutex;
  static std::vector<core::CheckpointEntry> entries;
  std::optional<core::CheckpointWriter> writer;
  if (c.rank() == 0) {
    entries.clear();
    writer.emplace(core::CheckpointStore(directory).begin(kSteps));
  }
  c.barrier();
  std::vector<core::HostView> views;
  std::vector<core::TensorPiece> pieces;
  for (const StateTensor& t : optimizer.state_to_save()) {
    views.emplace_back(device.queue(), t.data, core::Access::read);
    pieces.push_back({t.name, t.shape, t.data.dtype(), t.interval.begin, t.interval.end, views.back().raw()});
  }
  const auto entry =
      core::write_pieces(core::CheckpointPart(directory, kSteps), core::piece_file_name("state", c.rank()), pieces);
  {
    const std::lock_guard lock(mutex);
    entries.push_back(entry);
  }
  c.barrier();
  if (writer) writer->commit(entries, "{}");
}

void load(core::Device& device, DistributedOptimizer& optimizer, const core::PieceReader& reader) {
  optimizer.load_state(kSteps, [&](const StateTensor& t) {
    const core::HostView host(device.queue(), t.data, core::Access::write);
    reader.read_float(t.name, t.shape, t.data.dtype(), t.interval.begin, t.interval.end, host.data<float>());
    host.upload();
  });
}

// A checkpoint of four ranks at `zero`, and what they held.
void save_at_four_ranks(int zero, const std::string& directory, Gathered& saved) {
  run_on_devices(4, [&](dist::Communicator& c, core::Device& device) {
    Model model;
    DistributedOptimizer optimizer(device, model.list, config(), options(zero, 100), c);
    optimizer.initialize(3);
    train(model, optimizer);
    saved.add(optimizer.state_to_save());
    std::int64_t bytes = 0;
    for (const StateTensor& t : optimizer.state_to_save()) bytes += t.data.bytes();
    EXPECT_EQ(bytes, optimizer.plan().snapshot_bytes(c.rank()));
    save(c, device, optimizer, directory);
  });
}

TEST(CheckpointMatrix, Pitfall36_Pitfall37_OpensBitEqualAtEveryWorldSizeStageAndBucketSize) {
  for (const int from : kZeroStages) {
    const TemporaryFolder folder;
    Gathered saved;
    save_at_four_ranks(from, folder.path(), saved);
    for (const auto& [name, values] : saved.tensors())
      for (const float v : values) ASSERT_FALSE(std::isnan(v)) << name << " has elements that no rank saved";
    const core::PieceReader reader(core::CheckpointStore(folder.path()).open(kSteps), "state");
    for (const int ranks : {1, 2, 3, 5})
      for (const int to : kZeroStages)
        for (const std::int64_t bucket : {40, 10000}) {
          Gathered opened;
          run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
            Model model;
            DistributedOptimizer optimizer(device, model.list, config(), options(to, bucket), c);
            load(device, optimizer, reader);
            optimizer.require_equal_weights();
            opened.add(optimizer.state_to_save());
          });
          EXPECT_TRUE(opened == saved) << "from stage " << from << " to stage " << to << " on " << ranks
                                       << " ranks, buckets of " << bucket;
        }
  }
}

TEST(CheckpointMatrix, Pitfall37_TheWeightsOfTheForwardPassAreTheMastersAfterALoad) {
  const TemporaryFolder folder;
  Gathered saved;
  save_at_four_ranks(1, folder.path(), saved);
  const core::PieceReader reader(core::CheckpointStore(folder.path()).open(kSteps), "state");
  for (const int zero : {0, 1, 2})  // stages whose ranks keep weights whole
    run_on_devices(3, [&](dist::Communicator& c, core::Device& device) {
      Model model;
      DistributedOptimizer optimizer(device, model.list, config(), options(zero, 100), c);
      load(device, optimizer, reader);
      for (const core::Parameter* p : model.list) {
        if (p->size() > 0) {
          EXPECT_EQ(values_of(p->value), saved.tensors().at(p->name + "/master")) << p->name;
        }
      }
    });
}

TEST(CheckpointMatrix, Pitfall40_NoRankTakesMoreMemoryForALoadThanItsPlanSays) {
  const TemporaryFolder folder;
  Gathered saved;
  save_at_four_ranks(1, folder.path(), saved);
  const core::PieceReader reader(core::CheckpointStore(folder.path()).open(kSteps), "state");
  for (const int zero : kZeroStages)
    run_on_devices(5, [&](dist::Communicator& c, core::Device& device) {
      Model model;
      DistributedOptimizer optimizer(device, model.list, config(), options(zero, 100), c);
      load(device, optimizer, reader);
      const core::MemoryUse use = device.allocator()->use();
      const optim::ExecutionPlan::Bytes planned = optimizer.plan().bytes(c.rank());
      EXPECT_EQ(use.peak_of(core::Category::optimizer), planned.optimizer) << "stage " << zero;
      EXPECT_LE(use.peak_of(core::Category::weights), planned.weights) << "stage " << zero;
      // Beside what a library keeps for itself.
      EXPECT_LE(use.peak_total - use.peak_of(core::Category::other), planned.total()) << "stage " << zero;
    });
}

}  // namespace
}  // namespace muonp::test
