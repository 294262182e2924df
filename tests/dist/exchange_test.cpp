// Reduction of gradients and the way of matrices through their owners, on integer-valued data, so that every
// result is exact whatever the number of ranks, the stage, the buckets or the waves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "dist/decorators.h"
#include "dist/owner_exchange.h"
#include "dist/reducer.h"
#include "dist/thread.h"

using namespace muonp;
using namespace muonp::dist;
using core::Dtype;
using core::Tensor;

namespace {

// Odd shapes: one straddles buckets' ends and ranks, one is smaller than the world, one has one row, one is
// empty.
struct Model {
  std::vector<core::Parameter> parameters;
  core::ParameterList list;

  Model() {
    const std::vector<std::pair<std::string, core::Shape>> shapes = {
        {"a.weight", {5, 7}}, {"b.weight", {33, 41}}, {"b.bias", {33}},      {"c.weight", {1, 9}},
        {"d.weight", {0, 4}}, {"e.weight", {2, 2}},   {"f.weight", {64, 17}}};
    for (const auto& [name, shape] : shapes) parameters.push_back({name, shape, {}, {}, {}, {}});
    for (core::Parameter& p : parameters) list.push_back(&p);
  }
  std::vector<ParameterSpec> specs() const {
    std::vector<ParameterSpec> s;
    for (const core::Parameter& p : parameters) s.push_back({p.name, p.shape});
    return s;
  }
  std::vector<MatrixTask> tasks() const {
    std::vector<MatrixTask> t;
    for (std::size_t i = 0; i < parameters.size(); ++i)
      if (parameters[i].shape.size() == 2 && parameters[i].size() > 0)
        t.push_back({parameters[i].name, static_cast<int>(i), static_cast<double>(parameters[i].size()),
                     parameters[i].size()});
    return t;
  }
};

constexpr int kSamples = 840;  // divisible by every world size here times two passes

float sample_gradient(int parameter, std::int64_t i, int sample) {
  return static_cast<float>((parameter * 31 + i * 7 + sample * 13) % 17 - 8);
}

// Sum over samples [0, count); made once, since every rank of every case asks for it.
float gradient_sum(int parameter, std::int64_t i, int count) {
  static const auto prefix = [] {
    std::vector<std::vector<float>> all;
    for (const core::Parameter& p : Model().parameters) {
      const std::int64_t n = p.size();
      std::vector<float> sums(static_cast<std::size_t>((kSamples + 1) * n), 0);
      for (int s = 0; s < kSamples; ++s)
        for (std::int64_t k = 0; k < n; ++k)
          sums[std::size_t((s + 1) * n + k)] =
              sums[std::size_t(s * n + k)] + sample_gradient(static_cast<int>(all.size()), k, s);
      all.push_back(std::move(sums));
    }
    return all;
  }();
  const std::vector<float>& sums = prefix[std::size_t(parameter)];
  const auto n = static_cast<std::int64_t>(sums.size()) / (kSamples + 1);
  return sums[std::size_t(count * n + i)];
}

float total_gradient(int parameter, std::int64_t i) { return gradient_sum(parameter, i, kSamples); }

// Writes the gradients of this rank's share of the samples, in `passes` backward passes, as a tape would.
void backward(Model& model, GradientReducer& reducer, int rank, int size, int passes) {
  const int share = kSamples / size / passes;
  for (int pass = 0; pass < passes; ++pass) {
    reducer.begin_pass(pass == 0, pass == passes - 1);
    for (int p = static_cast<int>(model.list.size()) - 1; p >= 0; --p) {
      core::Parameter& parameter = *model.list[static_cast<std::size_t>(p)];
      const core::GradientSlot slot = reducer.slot(parameter);
      float* g = slot.gradient.data<float>();
      for (std::int64_t i = 0; i < parameter.size(); ++i) {
        const int first = (rank * passes + pass) * share;
        g[i] = (slot.add ? g[i] : 0) + gradient_sum(p, i, first + share) - gradient_sum(p, i, first);
      }
      reducer.complete(parameter);
    }
  }
  reducer.finish();
}

struct Case {
  int stage, passes;
  bool overlap;
  std::int64_t bucket;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (int stage : {0, 1, 2})
    for (int passes : {1, 2})
      for (bool overlap : {false, true})
        for (std::int64_t bucket : {64, 700, 100000}) all.push_back({stage, passes, overlap, bucket});
  return all;
}

void check_reduction(Communicator& communicator, const Case& s) {
  auto device = core::make_cpu_device(1);
  Model model;
  const ShardPlan plan(model.specs(), communicator.size(), s.bucket);
  const ShardedParameters parameters(*device, model.list, plan, communicator.rank(), s.stage, Dtype::float32);
  AsyncQueue async(s.overlap ? AsyncQueue::Mode::worker : AsyncQueue::Mode::inline_);
  GradientReducer reducer(*device, parameters, communicator, async, s.overlap);
  for (int repeat = 0; repeat < 2; ++repeat) {
    backward(model, reducer, communicator.rank(), communicator.size(), s.passes);
    for (int p = 0; p < static_cast<int>(model.list.size()); ++p) {
      const Interval kept = parameters.kept(p);
      const Tensor reduced = reducer.reduced(p);
      ASSERT_EQ(reduced.size(), kept.count());
      for (std::int64_t i = 0; i < kept.count(); ++i)
        ASSERT_EQ(reduced.data<float>()[i], total_gradient(p, kept.begin + i))
            << model.list[std::size_t(p)]->name;
    }
  }
}

// Gathers, doubles and negates on the owner, scatters; returns every matrix as its owner saw it.
std::map<std::string, std::vector<float>> check_exchange(Communicator& communicator, const Case& s,
                                                         std::int64_t wave_elements) {
  auto device = core::make_cpu_device(1);
  Model model;
  const ShardPlan plan(model.specs(), communicator.size(), s.bucket);
  const OwnerPlan owners(model.tasks(), communicator.size(), wave_elements);
  const ShardedParameters parameters(*device, model.list, plan, communicator.rank(), s.stage, Dtype::float32);
  AsyncQueue async(s.overlap ? AsyncQueue::Mode::worker : AsyncQueue::Mode::inline_);
  GradientReducer reducer(*device, parameters, communicator, async, s.overlap);
  OwnerExchange exchange(*device, parameters, owners, communicator, async);
  backward(model, reducer, communicator.rank(), communicator.size(), s.passes);

  std::map<std::string, std::vector<float>> seen;
  std::vector<int> arrived(owners.tasks().size(), 0);
  const auto parameter_of = [&](int task) { return owners.tasks()[std::size_t(task)].parameter; };
  exchange.run([&](int task) { return reducer.reduced(parameter_of(task)); },
               [&](std::span<const OwnedMatrix> mine) {
                 for (const OwnedMatrix& m : mine) {
                   const auto in = m.in.span<float>();
                   EXPECT_EQ(m.in.shape(), model.list[std::size_t(parameter_of(m.task))]->shape);
                   seen[owners.tasks()[std::size_t(m.task)].name].assign(in.begin(), in.end());
                   for (std::size_t i = 0; i < in.size(); ++i) m.out.data<float>()[i] = -2 * in[i];
                 }
               },
               [&](int task) { ++arrived[std::size_t(task)]; });
  for (std::size_t t = 0; t < arrived.size(); ++t) {
    EXPECT_EQ(arrived[t], 1);
    const int p = parameter_of(static_cast<int>(t));
    const Interval kept = parameters.kept(p);
    for (std::int64_t i = 0; i < kept.count(); ++i)
      EXPECT_EQ(reducer.reduced(p).data<float>()[i], -2 * total_gradient(p, kept.begin + i));
  }
  return seen;
}

}  // namespace

TEST(Reducer, SumsExactlyAtEveryWorldSizeStageAndBucketSize) {
  for (int n : {1, 2, 3, 4, 5, 7})
    for (const Case& s : cases())
      ASSERT_NO_THROW(run_ranks(n, [&](Communicator& c) { check_reduction(c, s); }))
          << "ranks " << n << " stage " << s.stage << " passes " << s.passes << " bucket " << s.bucket;
}

TEST(OwnerExchange, Pitfall03_Pitfall22_GatheredMatricesAreBitEqualForAllWorldSizes) {
  for (int n : {1, 2, 3, 4, 5, 7})
    for (const Case& s : cases())
      for (std::int64_t wave : {50, 100000}) {
        std::mutex mutex;
        std::map<std::string, std::vector<float>> all;
        run_ranks(n, [&](Communicator& c) {
          auto seen = check_exchange(c, s, wave);
          std::lock_guard lock(mutex);
          for (auto& [name, values] : seen)
            ASSERT_TRUE(all.emplace(name, std::move(values)).second) << name << " was computed twice";
        });
        ASSERT_EQ(all.size(), 5u);
        const std::vector<float>& b = all.at("b.weight");
        for (std::size_t i = 0; i < b.size(); ++i) ASSERT_EQ(b[i], total_gradient(1, std::int64_t(i)));
      }
}

TEST(OwnerExchange, Pitfall03_TheTestedMatrixStraddlesRanks) {
  const Model model;
  const ShardPlan plan(model.specs(), 3, 700);
  int holders = 0;
  for (int r = 0; r < 3; ++r) holders += !plan.piece(1, r).empty();
  EXPECT_GE(holders, 2);
}

TEST(OwnerExchange, Pitfall26_RecordedBytesEqualTheFormula) {
  for (int n : {2, 3, 4, 5})
    for (int stage : {0, 1, 2})
      run_ranks(n, [&](Communicator& c) {
        Recording recording(c);
        const Case s{stage, 1, false, 700};
        check_exchange(recording, s, 100000);
        const Model model;
        const ShardPlan plan(model.specs(), n, 700);
        const OwnerPlan owners(model.tasks(), n, 100000);
        std::int64_t sent = 0, calls = 0;
        for (int w = 0; w < owners.waves(); ++w) {
          calls += stage == 0 ? 1 : 2;
          for (int t : owners.wave(w)) {
            const int p = owners.tasks()[std::size_t(t)].parameter;
            const std::int64_t whole = plan.in_bucket(p).count(), mine = plan.piece(p, c.rank()).count();
            const bool own = owners.owner(t) == c.rank();
            if (stage == 0)
              sent += own ? (n - 1) * whole : 0;
            else
              sent += own ? whole - mine : mine;  // as owner: the others' updates; else: my piece
          }
        }
        EXPECT_EQ(recording.total(OperationKind::exchange).bytes, 4 * sent);
        EXPECT_EQ(recording.total(OperationKind::exchange).calls, calls);
        const auto reduced =
            recording.total(stage == 0 ? OperationKind::all_reduce : OperationKind::reduce_scatter);
        EXPECT_EQ(reduced.calls, static_cast<std::int64_t>(plan.buckets().size()));
        if (stage > 0) {
          EXPECT_EQ(reduced.bytes, 4 * plan.padded_elements() / n * (n - 1));
        }
      });
}

TEST(Reducer, Pitfall27_Stage2NeverHoldsAllGradients) {
  run_ranks(2, [](Communicator& c) {
    auto device = core::make_cpu_device(1);
    Model model;
    const ShardPlan plan(model.specs(), 2, 64);
    const ShardedParameters parameters(*device, model.list, plan, c.rank(), 2, Dtype::float32);
    AsyncQueue async(AsyncQueue::Mode::inline_);
    GradientReducer reducer(*device, parameters, c, async, false);
    backward(model, reducer, c.rank(), 2, 2);
    std::int64_t largest = 0;
    for (const Bucket& b : plan.buckets()) largest = std::max(largest, b.size);
    EXPECT_EQ(device->allocator()->use().peak_of(core::Category::gradients),
              4 * (plan.padded_elements() / 2 + largest));
    EXPECT_EQ(device->allocator()->use().of(core::Category::gradients), 2 * plan.padded_elements());
  });
}

TEST(Reducer, Pitfall33_WrongOrderIsAClearError) {
  run_ranks(1, [](Communicator& c) {
    auto device = core::make_cpu_device(1);
    Model model;
    const ShardedParameters parameters(*device, model.list, ShardPlan(model.specs(), 1, 700), 0, 1,
                                       Dtype::float32);
    AsyncQueue async(AsyncQueue::Mode::inline_);
    GradientReducer reducer(*device, parameters, c, async, false);
    EXPECT_THROW(reducer.finish(), core::InternalError);              // a step before any backward pass
    EXPECT_THROW(reducer.slot(*model.list[0]), core::InternalError);  // a gradient outside a pass
    backward(model, reducer, 0, 1, 1);
    EXPECT_THROW(reducer.begin_pass(false, true), core::InternalError);  // adding to reduced gradients
    reducer.begin_pass(true, true);
    reducer.slot(*model.list[0]);
    reducer.complete(*model.list[0]);
    EXPECT_THROW(reducer.complete(*model.list[0]), core::InternalError);  // completed twice
    EXPECT_THROW(reducer.finish(), core::InternalError);                  // others are missing
  });
}

TEST(Reducer, Pitfall31_SurvivesAllocatorChurnWhileReductionsAreInFlight) {
  run_ranks(3, [](Communicator& c) {
    Delayed delayed(c, std::chrono::microseconds(300), 7);
    for (int repeat = 0; repeat < 10; ++repeat) check_reduction(delayed, {2, 2, true, 64});
    for (int repeat = 0; repeat < 10; ++repeat) check_exchange(delayed, {2, 2, true, 64}, 50);
  });
}
