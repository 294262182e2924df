// EF21-Muon on ranks that are threads: what it equals, what it sends and keeps, and how it comes back from a checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <mutex>

#include "dist/comm/decorators.h"
#include "optim/engine/state_reader.h"
#include "tests/optim/engine/small_model.h"
#include "tests/support/temporary_folder.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;
using core::Category;
using core::Dtype;

namespace {

const std::vector<std::string> kCompressors = {"identity", "top_k 0.2", "top_k_natural 0.1", "natural", "sign",
                                               "int8",     "rank 2"};

struct Training {
  int ranks = 1, zero = 1, passes = 1, steps = 4;
  bool overlap = false;
  std::string to_owner = "identity", to_workers = "identity", others = "none";
  OptimizerConfig config = small_config();
  std::int64_t wave = 80;
  Dtype dtype = Dtype::float32;
};

ParallelOptions options_of(const Training& run) {
  return {.zero = run.zero,
          .bucket_elements = 100,
          .wave_elements = run.wave,
          .overlap = run.overlap,
          .weight_dtype = run.dtype,
          .compression = parse_compression(run.to_owner, run.to_workers, run.others)};
}

Training uncompressed(Training run) {
  run.to_owner = run.to_workers = run.others = "none";
  return run;
}

struct Result {
  std::vector<float> weights;
  std::vector<double> norms;
};

Result train(const Training& run) {
  Result result;
  std::mutex mutex;
  run_on_devices(run.ranks, [&](dist::Communicator& communicator, core::Device& device) {
    SmallModel model;
    DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), communicator);
    optimizer.initialize(3);
    std::vector<double> norms;
    for (std::int64_t step = 0; step < run.steps; ++step) {
      backward(model, optimizer, communicator.rank(), run.ranks, run.passes, step);
      norms.push_back(optimizer.step(1.0).gradient_norm);
      optimizer.require_equal_weights();
    }
    std::vector<float> weights = weights_of(model, optimizer);
    if (communicator.rank() == 0) {
      std::lock_guard lock(mutex);
      result = {std::move(weights), norms};
    }
  });
  return result;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

// Largest difference, relative to 1 + |x|.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    most = std::max(most, std::fabs(static_cast<double>(a[i]) - b[i]) / (1 + std::fabs(a[i])));
  return a.size() == b.size() ? most : INFINITY;
}

using State = std::map<std::string, std::vector<float>>;

// All that the ranks of a run hold, by name; pieces of one tensor are put together.
class Stored {
 public:
  void add(const DistributedOptimizer& optimizer) {
    std::lock_guard lock(mutex_);
    for (const StateTensor& t : optimizer.state_to_save()) {
      auto& whole = state[t.name];
      whole.resize(static_cast<std::size_t>(core::element_count(t.shape)), NAN);
      std::ranges::copy(values_of(t.data), whole.begin() + t.interval.begin);
    }
  }
  State state;

 private:
  std::mutex mutex_;
};

// A checkpoint on disk, written by as many ranks as the run has.
class Saved {
 public:
  void write(const DistributedOptimizer& optimizer, dist::Communicator& c) {
    if (c.rank() == 0) {
      store_ = std::make_unique<core::CheckpointStore>(folder_.path());
      writer_.emplace(store_->begin(1));
    }
    c.barrier();
    std::vector<std::vector<float>> values;
    std::vector<core::TensorPiece> pieces;
    for (const StateTensor& t : optimizer.state_to_save()) {
      values.push_back(values_of(t.data));
      pieces.push_back({t.name, t.shape, Dtype::float32, t.interval.begin, t.interval.end, values.back().data()});
    }
    const auto entry =
        core::write_pieces(core::CheckpointPart(folder_.path(), 1), core::piece_file_name("state", c.rank()), pieces);
    {
      std::lock_guard lock(mutex_);
      entries_.push_back(entry);
    }
    c.barrier();
    if (c.rank() == 0) writer_->commit(entries_, "{}");
    c.barrier();
  }
  void load(DistributedOptimizer& optimizer, bool same_world_size, std::int64_t steps) const {
    const core::PieceReader pieces(store_->open(1), "state");
    const StateReader reader(pieces, same_world_size);
    optimizer.load_state(steps, [&](const StateTensor& t) {
      std::vector<float> values(static_cast<std::size_t>(t.data.size()));
      reader.read(t, values.data());
      set_values(t.data, values);
    });
  }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<core::CheckpointStore> store_;
  std::optional<core::CheckpointWriter> writer_;
  std::vector<core::CheckpointEntry> entries_;
  std::mutex mutex_;
};

}  // namespace

TEST(Compression, IdentityOnOneRankIsTheUncompressedStepBitForBit) {
  for (int zero : {0, 1})
    for (bool overlap : {false, true})
      for (bool nesterov : {false, true})
        for (double clip : {0.0, 0.1}) {
          Training run{.zero = zero, .passes = 2, .steps = 6, .overlap = overlap};
          run.config.matrices.rule.as<Muonp>().nesterov = nesterov;
          run.config.clip = clip;
          const Result with = train(run), without = train(uncompressed(run));
          EXPECT_TRUE(same_bits(with.weights, without.weights)) << distance(with.weights, without.weights);
          EXPECT_EQ(with.norms, without.norms);
        }
}

TEST(Compression, IdentityOnFourRanksIsTheUncompressedStep) {
  for (int ranks : {2, 3, 4})
    for (bool overlap : {false, true}) {
      Training run{.ranks = ranks, .passes = 2, .steps = 6, .overlap = overlap};
      run.config.clip = 0;  // of gradients that are not summed the mean's norm is not known
      EXPECT_LE(distance(train(uncompressed(run)).weights, train(run).weights), 1e-5) << ranks << " ranks";
    }
}

TEST(Compression, NormIsTheMeansOrMore) {
  for (int ranks : {1, 2, 4}) {
    const Training run{.ranks = ranks, .others = "int8"};
    const Result with = train(run), without = train(uncompressed(run));
    EXPECT_GE(with.norms[0], without.norms[0] * (1 - 1e-6));
    EXPECT_LE(with.norms[0], without.norms[0] * (1 + 1e-6) * std::sqrt(static_cast<double>(ranks)) * 2);
  }
}

TEST(Compression, EveryCompressorKeepsRanksEqualAndStagesAlike) {
  for (const std::string& up : kCompressors)
    for (const std::string& down : {std::string("identity"), std::string("natural"), up}) {
      Training run{.ranks = 3, .zero = 0, .steps = 3, .to_owner = up, .to_workers = down, .others = "int8"};
      const Result reference = train(run);  // compares the ranks' weights after each step
      run.zero = 1;
      run.overlap = true;
      run.wave = 1000;
      EXPECT_TRUE(same_bits(train(run).weights, reference.weights)) << up << ", " << down;
    }
}

// One target for all ranks that stands still: the estimates come to it, and the weights of all to the owner's, so that
// after some time every compressor moves like none.
TEST(Compression, EstimatesComeToASteadyTarget) {
  for (const std::string& spec : kCompressors) {
    run_on_devices(2, [&](dist::Communicator& c, core::Device& device) {
      Training run{.ranks = 2, .to_owner = spec, .to_workers = spec, .others = "int8"};
      run.config.matrices.rule.as<Muonp>().momentum = 0;
      run.config.matrices.lr = run.config.others.lr = 0;  // X stands still too
      run.config.matrices.weight_decay = 0;
      SmallModel model;
      DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), c);
      optimizer.initialize(3);
      for (int step = 0; step < 120; ++step) {
        backward(model, optimizer, c.rank(), 2, 1, 0);
        optimizer.step(1.0);
      }
      State state;
      for (const StateTensor& t : optimizer.state_to_save()) state[t.name] = values_of(t.data);
      for (const auto& [name, mean] : state) {
        if (!name.ends_with(".weight/mean_estimate")) continue;
        const std::string parameter = name.substr(0, name.find('/'));
        const std::vector<float>& momentum = state.at(fmt::format("{}/momentum#{}", parameter, c.rank()));
        const std::vector<float>& estimate = state.at(fmt::format("{}/estimate#{}", parameter, c.rank()));
        double residual = 0, norm = 0;
        for (std::size_t i = 0; i < momentum.size(); ++i) {
          residual += std::pow(momentum[i] - estimate[i], 2);
          norm += std::pow(momentum[i], 2);
        }
        const auto n = static_cast<std::int64_t>(momentum.size());
        const double alpha = dist::make_compressor(dist::parse_compressor(spec), 1, n)->alpha();
        EXPECT_LE(residual, (1e-6 + std::pow(1 - alpha, 119)) * norm) << spec << ", " << name;
      }
    });
  }
}

TEST(Compression, TheOwnersMeanIsTheMeanOfAllEstimates) {
  Stored stored;
  run_on_devices(3, [&](dist::Communicator& c, core::Device& device) {
    SmallModel model;
    DistributedOptimizer optimizer(device, model.list, small_config(),
                                   options_of({.ranks = 3, .to_owner = "sign", .to_workers = "natural", .others = "int8"}),
                                   c);
    optimizer.initialize(3);
    for (int step = 0; step < 10; ++step) {
      backward(model, optimizer, c.rank(), 3, 1, step);
      optimizer.step(1.0);
    }
    stored.add(optimizer);
  });
  int compared = 0;
  for (const auto& [name, mean] : stored.state) {
    if (!name.ends_with("/mean_estimate")) continue;
    const std::string prefix = name.substr(0, name.find('/')) + "/estimate#";
    for (std::size_t i = 0; i < mean.size(); ++i, ++compared) {
      const double expected = (static_cast<double>(stored.state.at(prefix + "0")[i]) + stored.state.at(prefix + "1")[i] +
                               stored.state.at(prefix + "2")[i]) /
                              3;
      // 10 steps, 3 messages each, rounded to 24 bits when they are added.
      ASSERT_NEAR(mean[i], expected, 60 * 0x1p-24 * 4) << name;
    }
  }
  EXPECT_EQ(compared, 19 * 6 + 12 * 6 + 12 + 5 * 12 + 5 + 49);
}

TEST(Compression, Pitfall26_BytesSentAndKeptEqualThePlan) {
  for (int ranks : {1, 2, 3, 4, 5, 7})
    for (int zero : {0, 1})
      for (const std::string& spec : kCompressors)
        for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16}) {
          if (dtype == Dtype::bfloat16 && spec != "natural") continue;
          const Training run{.ranks = ranks,
                             .zero = zero,
                             .to_owner = spec,
                             .to_workers = "top_k_natural 0.3",
                             .others = ranks % 2 ? "int8" : "none",
                             .dtype = dtype};
          SCOPED_TRACE(fmt::format("{} ranks, stage {}, {}", ranks, zero, spec));
          std::mutex mutex;
          double total = 0, planned = 0;
          run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
            dist::Recording recording(c);
            SmallModel model;
            DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), recording);
            optimizer.initialize(3);
            for (int step = 0; step < 2; ++step) {
              recording.clear();
              optimizer.begin_pass(true, true);
              for (int p = static_cast<int>(model.list.size()) - 1; p >= 0; --p) {
                core::Parameter& parameter = *model.list[std::size_t(p)];
                fill(optimizer.gradients().slot(parameter).gradient, static_cast<float>(p + c.rank() + step));
                optimizer.gradients().complete(parameter);
              }
              optimizer.step(1);
            }
            const ExecutionPlan::Bytes plan = optimizer.plan().bytes(c.rank());
            const core::MemoryUse used = device.allocator()->use();
            EXPECT_EQ(used.peak_of(Category::weights), plan.weights);
            EXPECT_EQ(used.peak_of(Category::gradients), plan.gradients);
            EXPECT_EQ(used.peak_of(Category::optimizer), plan.optimizer);
            EXPECT_LE(used.peak_of(Category::exchange), plan.exchange * 102 / 100);
            using dist::OperationKind;
            std::lock_guard lock(mutex);
            // Two exchanges a wave of compressed matrices, whatever they hold.
            const auto& feedback = optimizer.plan().compression->feedback;
            EXPECT_EQ(recording.total(OperationKind::exchange).calls, 2 * std::ssize(feedback.waves));
            EXPECT_EQ(recording.total(OperationKind::exchange).bytes, feedback.bytes(c.rank(), ranks).sent);
            for (const auto kind : {OperationKind::reduce_scatter, OperationKind::all_gather, OperationKind::exchange,
                                    OperationKind::all_reduce})
              total += static_cast<double>(recording.total(kind).bytes);
            planned = optimizer.plan().bytes_sent_per_step();
          });
          EXPECT_NEAR(total / ranks, planned, 1e-9 * planned);
        }
}

TEST(Compression, Pitfall13_OneRanksNanSkipsTheStepEverywhere) {
  run_on_devices(3, [&](dist::Communicator& c, core::Device& device) {
    SmallModel model;
    DistributedOptimizer optimizer(device, model.list, small_config(),
                                   options_of({.to_owner = "top_k 0.2", .to_workers = "int8", .others = "int8"}), c);
    optimizer.initialize(3);
    const auto snapshot = [&] {
      std::vector<float> all = weights_of(model, optimizer);
      for (const StateTensor& t : optimizer.state_to_save()) {
        const std::vector<float> values = values_of(t.data);
        all.insert(all.end(), values.begin(), values.end());
      }
      return all;
    };
    backward(model, optimizer, c.rank(), 3, 1, 0);
    optimizer.step(1);
    const std::vector<float> before = snapshot();
    for (int bad : {0, 3}) {  // an embedding, a matrix
      backward(model, optimizer, c.rank(), 3, 1, 1, [&](int p, std::int64_t i, std::int64_t s, int k) {
        return c.rank() == 1 && p == bad && i == 17 ? NAN : sample_gradient(p, i, s, k);
      });
      EXPECT_TRUE(optimizer.step(1).skipped);
      EXPECT_TRUE(same_bits(snapshot(), before));
    }
    backward(model, optimizer, c.rank(), 3, 1, 2);
    EXPECT_FALSE(optimizer.step(1).skipped);
  });
}

TEST(Compression, BfloatWeightsAreTheRoundedSharedOnes) {
  run_on_devices(2, [&](dist::Communicator& c, core::Device& device) {
    SmallModel model;
    const Training run{.ranks = 2, .to_owner = "natural", .to_workers = "int8", .others = "int8", .dtype = Dtype::bfloat16};
    DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), c);
    optimizer.initialize(3);
    for (int step = 0; step < 3; ++step) {
      backward(model, optimizer, c.rank(), 2, 1, step);
      optimizer.step(1);
    }
    Stored stored;  // of this rank: its share of W
    for (const StateTensor& t : optimizer.state_to_save()) {
      if (!t.name.ends_with("/weights")) continue;
      for (const core::Parameter* p : model.list) {
        if (p->name + "/weights" != t.name) continue;
        const auto shared = values_of(t.data);
        const auto read = values_of<core::bfloat16>(p->value);
        for (std::size_t i = 0; i < shared.size(); ++i)
          ASSERT_EQ(read[std::size_t(t.interval.begin) + i].bits, core::bfloat16(shared[i]).bits) << t.name;
      }
    }
  });
}

TEST(Compression, IsRefusedWhereNothingIsWhole) {
  SmallModel model;
  for (int zero : {2, 3})
    EXPECT_THAT(
        message_of<core::Error>([&] { make_execution_plan(model.list, small_config(), options_of({.zero = zero}), 4); }),
        testing::AllOf(testing::HasSubstr("momentum, estimates and weights"), testing::HasSubstr("valid are 0 and 1")));
  EXPECT_THAT(message_of<core::Error>([] { parse_compression("none", "none", "none", "int8"); }),
              testing::HasSubstr("compression.state_dtype is int8, and nothing is compressed"));
  EXPECT_THAT(message_of<core::Error>([] { parse_compression("sign", "none", "none"); }),
              testing::HasSubstr("compression.to_workers is none"));
  EXPECT_THAT(message_of<core::Error>([] { parse_compression("none", "topk", "none"); }),
              testing::HasSubstr("compression.to_workers: 'topk' is no compressor"));
}

// Residuals are what a target is beside its estimate: they must be there after a resume.
TEST(Compression, Pitfall39_AResumedRunIsBitEqualToAnUninterruptedOne) {
  for (const std::string& spec : kCompressors) {
    const Training run{.ranks = 4, .to_owner = spec, .to_workers = spec, .others = "int8"};
    const std::vector<float> uninterrupted =
        train({.ranks = 4, .steps = 6, .to_owner = spec, .to_workers = spec, .others = "int8"}).weights;
    Saved saved;
    const auto steps = [&](bool resume, int from, int to, std::vector<float>* weights) {
      run_on_devices(4, [&](dist::Communicator& c, core::Device& device) {
        SmallModel model;
        DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), c);
        if (resume)
          saved.load(optimizer, true, from);
        else
          optimizer.initialize(3);
        for (int step = from; step < to; ++step) {
          backward(model, optimizer, c.rank(), 4, 1, step);
          optimizer.step(1.0);
        }
        if (!resume) saved.write(optimizer, c);
        std::vector<float> last = weights_of(model, optimizer);
        if (c.rank() == 0 && weights) *weights = std::move(last);
      });
    };
    std::vector<float> resumed;
    steps(false, 0, 3, nullptr);
    steps(true, 3, 6, &resumed);
    EXPECT_TRUE(same_bits(resumed, uninterrupted)) << spec << ", " << distance(resumed, uninterrupted);
  }
}

TEST(Compression, Pitfall36_OtherWorldSizesTakeTheMeans) {
  const Training run{.ranks = 4, .to_owner = "top_k 0.2", .to_workers = "natural", .others = "int8"};
  Saved saved;
  Stored before;
  run_on_devices(4, [&](dist::Communicator& c, core::Device& device) {
    SmallModel model;
    DistributedOptimizer optimizer(device, model.list, run.config, options_of(run), c);
    optimizer.initialize(3);
    for (int step = 0; step < 5; ++step) {
      backward(model, optimizer, c.rank(), 4, 1, step);
      optimizer.step(1.0);
    }
    saved.write(optimizer, c);
    before.add(optimizer);
  });
  for (int ranks : {1, 2, 3, 5})
    for (int zero : {0, 1})
      for (bool compressed : {true, false}) {
        SCOPED_TRACE(fmt::format("{} ranks, stage {}, compressed {}", ranks, zero, compressed));
        Stored after;
        run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
          SmallModel model;
          Training other = run;
          other.zero = zero;
          if (!compressed) other = uncompressed(other);
          DistributedOptimizer optimizer(device, model.list, run.config, options_of(other), c);
          saved.load(optimizer, false, 5);
          optimizer.require_equal_weights();
          after.add(optimizer);
          backward(model, optimizer, c.rank(), ranks, 1, 5);
          EXPECT_FALSE(optimizer.step(1.0).skipped);
        });
        for (const auto& [name, values] : after.state) {
          const std::size_t slash = name.find('/'), mark = name.find('#');
          const std::string parameter = name.substr(0, slash + 1), what = name.substr(slash + 1, mark - slash - 1);
          if (what == "momentum") {
            for (std::size_t i = 0; i < values.size(); ++i) {
              double mean = 0;
              for (int r = 0; r < 4; ++r) mean += before.state.at(fmt::format("{}momentum#{}", parameter, r))[i] / 4.0;
              ASSERT_NEAR(values[i], mean, 8 * 0x1p-24 * (1 + std::fabs(mean))) << name;
            }
          } else if (what == "estimate" || what == "mean_estimate") {
            EXPECT_TRUE(same_bits(values, before.state.at(parameter + "mean_estimate"))) << name;
          } else {
            EXPECT_TRUE(same_bits(values, before.state.at(name))) << name;
          }
        }
      }
}

TEST(Compression, ARunWithoutItGoesOnWithIt) {
  Saved saved;
  const Training plain = uncompressed({.ranks = 3});
  run_on_devices(3, [&](dist::Communicator& c, core::Device& device) {
    SmallModel model;
    DistributedOptimizer optimizer(device, model.list, plain.config, options_of(plain), c);
    optimizer.initialize(3);
    for (int step = 0; step < 3; ++step) {
      backward(model, optimizer, c.rank(), 3, 1, step);
      optimizer.step(1.0);
    }
    saved.write(optimizer, c);
  });
  for (int ranks : {2, 3})
    run_on_devices(ranks, [&](dist::Communicator& c, core::Device& device) {
      SmallModel model;
      DistributedOptimizer optimizer(
          device, model.list, plain.config,
          options_of({.ranks = ranks, .to_owner = "sign", .to_workers = "sign", .others = "int8"}), c);
      saved.load(optimizer, ranks == 3, 3);
      optimizer.require_equal_weights();
      State state;
      for (const StateTensor& t : optimizer.state_to_save()) state[t.name] = values_of(t.data);
      for (const auto& [name, values] : state)
        if (name.ends_with(".weight/mean_estimate")) {
          const std::string parameter = name.substr(0, name.find('/'));
          EXPECT_TRUE(same_bits(values, state.at(fmt::format("{}/momentum#{}", parameter, c.rank())))) << name;
        }
    });
}
