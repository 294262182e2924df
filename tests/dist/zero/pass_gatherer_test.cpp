// Weights that are whole only while they are read (ZeRO 3), by ranks that are threads.
#include <gmock/gmock.h>

#include <deque>

#include "core/autograd/ops/linear.h"
#include "dist/comm/decorators.h"
#include "dist/comm/thread.h"
#include "dist/zero/weight_gatherer.h"
#include "tests/support/test_device.h"

namespace muonp::test {
namespace {

using core::Category;
using core::Dtype;
using core::Parameter;
using core::Tensor;
using ::testing::HasSubstr;

// Five square matrices that are applied one after the other, as a tape would acquire them.
struct Chain {
  static constexpr std::int64_t kWidth = 9;
  std::deque<Parameter> storage;
  core::ParameterList list;
  core::WeightReads reads;

  Chain() {
    for (int i = 0; i < 5; ++i) {
      Parameter& p = storage.emplace_back();
      p.name = fmt::format("layers.{}.w", i);
      p.shape = {kWidth, kWidth};
      list.push_back(&p);
      reads.operation({&p}, {&p});
    }
  }
  dist::ShardPlan shards(int ranks) const {
    std::vector<dist::ParameterSpec> specs;
    for (const Parameter* p : list) specs.push_back({p->name, p->shape});
    return {specs, ranks, 1 << 20, true};
  }
};

struct Fixture {
  Chain chain;
  TestDevice device = make_cpu_test_device(1);
  dist::ShardedParameters parameters;
  dist::GatherPlan plan;
  dist::AsyncQueue async;
  dist::PassGatherer gatherer;

  Fixture(dist::Communicator& c, int prefetch, bool overlap, Dtype dtype = Dtype::float32)
      : parameters(*device, chain.list, chain.shards(c.size()), c.rank(), 3, dtype),
        plan(parameters.plan(), core::positions_of(chain.reads.forward, chain.list),
             core::positions_of(chain.reads.backward, chain.list), prefetch),
        async(overlap ? dist::AsyncQueue::Mode::worker : dist::AsyncQueue::Mode::inline_),
        gatherer(parameters, plan, c, async) {}

  // Element i of parameter p becomes a whole number that tells both and the round.
  static float number(int p, std::int64_t i, int round) { return static_cast<float>((p * 37 + i + round * 5) % 101); }
  void set_own(int round) {
    for (int p = 0; p < static_cast<int>(chain.list.size()); ++p) {
      const Tensor own = parameters.master(p);
      std::vector<float> values;
      for (std::int64_t i = 0; i < own.size(); ++i) values.push_back(number(p, parameters.kept(p).begin + i, round));
      if (!values.empty()) set_values(own, values);
    }
    for (int b = 0; b < static_cast<int>(parameters.plan().buckets().size()); ++b) parameters.cast_to_weights(b);
  }
  void read(int p, int round) {
    Parameter* const parameter = chain.list[static_cast<std::size_t>(p)];
    gatherer.acquire({{parameter}});
    if (parameter->value.dtype() == Dtype::bfloat16) {
      for (std::int64_t i = 0; i < parameter->size(); ++i)
        ASSERT_EQ(float(value_of<core::bfloat16>(parameter->value, i)), number(p, i, round));
      return;
    }
    for (std::int64_t i = 0; i < parameter->size(); ++i) ASSERT_EQ(value_of(parameter->value, i), number(p, i, round));
  }
  void pass(int round) {
    gatherer.begin_pass(true);
    for (int p = 0; p < 5; ++p) read(p, round);
    for (int p = 4; p >= 0; --p) read(p, round);
    gatherer.finish();
  }
};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const core::InternalError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(PassGatherer, Pitfall21_WeightsAreWholeAtEveryWorldSizePrefetchAndType) {
  for (int ranks : {1, 2, 3, 4, 5, 7})
    for (int prefetch : {0, 1, 3})
      for (const bool overlap : {false, true})
        dist::run_ranks(ranks, [&](dist::Communicator& inner) {
          dist::Delayed delayed(inner, std::chrono::microseconds(100), 5);
          Fixture f(delayed, prefetch, overlap, prefetch == 3 ? Dtype::bfloat16 : Dtype::float32);
          for (int round = 0; round < 2; ++round) {
            f.set_own(round);
            f.pass(round);
          }
        });
}

TEST(PassGatherer, Pitfall26_Pitfall27_GathersAndBytesHeldEqualThePlan) {
  for (int ranks : {1, 2, 3, 5})
    for (int prefetch : {0, 1, 2})
      for (const bool overlap : {false, true})
        dist::run_ranks(ranks, [&](dist::Communicator& inner) {
          dist::Recording recording(inner);
          Fixture f(recording, prefetch, overlap);
          f.set_own(0);
          f.pass(0);
          const dist::ShardPlan& shards = f.parameters.plan();
          const std::int64_t bucket = shards.buckets()[0].size, all = shards.padded_elements();
          // Forward gathers five; at the turn the last one and `prefetch` before it are still there.
          const std::int64_t gathers = 5 + 5 - 1 - prefetch;
          const dist::Recording::Total sent = recording.total(dist::OperationKind::all_gather);
          EXPECT_EQ(sent.calls, gathers);
          EXPECT_EQ(sent.bytes, gathers * 4 * bucket / ranks * (ranks - 1));
          EXPECT_EQ(f.plan.training().gathered, gathers * bucket);
          const core::MemoryUse use = f.device->allocator()->use();
          EXPECT_EQ(use.peak_of(Category::weights), 4 * (all / ranks + (1 + prefetch) * bucket));
          EXPECT_EQ(use.of(Category::weights), 4 * all / ranks);  // all released
        });
}

TEST(PassGatherer, Pitfall31_AWeightReadAfterItsReleaseIsCaught) {
  dist::run_ranks(2, [](dist::Communicator& c) {
    Fixture f(c, 0, false);
    f.set_own(0);
    Parameter& first = *f.chain.list[0];
    core::Tape tape(*f.device, false, &f.gatherer);
    f.gatherer.begin_pass(false);
    EXPECT_TRUE(tape.weight(first));
    f.read(1, 0);
    EXPECT_FALSE(first.value);
    core::Tape unaware(*f.device, false);  // reads what it finds
    const core::Variable x = unaware.constant(Tensor::zeros(*f.device, {1, Chain::kWidth}, Dtype::float32, Category::other));
    EXPECT_THAT(message_of([&] { core::ops::linear(unaware, x, first, nullptr); }),
                HasSubstr("layers.0.w is read where its value is not there"));
    EXPECT_THAT(message_of([&] { tape.weight(first); }), HasSubstr("layers.0.w is not what the model said"));
    f.gatherer.finish();
    EXPECT_THAT(message_of([&] { tape.weight(first); }), HasSubstr("layers.0.w is read outside a pass"));
  });
}

TEST(PassGatherer, Pitfall31_BuffersSurviveAllocatorChurnWhileGathersAreInFlight) {
  dist::run_ranks(3, [](dist::Communicator& inner) {
    dist::Delayed delayed(inner, std::chrono::microseconds(300), 7);
    Fixture f(delayed, 2, true);
    for (int round = 0; round < 10; ++round) {
      f.set_own(round);
      f.gatherer.begin_pass(true);
      for (int p = 0; p < 5; ++p) {
        f.read(p, round);
        Tensor::zeros(*f.device, {f.parameters.plan().buckets()[0].size}, Dtype::float32, Category::other);
      }
      f.gatherer.finish();  // in the middle of a pass, as an error would
    }
  });
}

TEST(ShardedParameters, HashIsThatOfWholeWeightsAndLeavesNothingBehind) {
  std::uint64_t whole = 0;
  for (int stage : {0, 3})
    dist::run_ranks(stage == 0 ? 1 : 3, [&](dist::Communicator& c) {
      Chain chain;
      const TestDevice device = make_cpu_test_device(1);
      dist::ShardedParameters parameters(*device, chain.list, chain.shards(c.size()), c.rank(), stage, Dtype::float32);
      for (Parameter* p : chain.list) p->init = {core::Initializer::Kind::normal, 1};
      for (int p = 0; p < static_cast<int>(chain.list.size()); ++p) parameters.fill(p, core::random_weights(3));
      const std::uint64_t hash = parameters.weights_hash(c);
      if (stage == 0) whole = hash;
      EXPECT_EQ(hash, whole);
      if (stage == 3) {
        EXPECT_FALSE(chain.list[0]->value);
      }
    });
}

}  // namespace
}  // namespace muonp::test
