#include "tests/dist/zero/pipeline_checks.h"

#include "core/device/host_view.h"

namespace muonp::test {

using namespace dist;
using core::Dtype;
using core::Tensor;

namespace {

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

std::vector<float> values_of(core::Device& device, const Tensor& t) {
  const core::HostView view(device.queue(), t, core::Access::read);
  return {view.data<float>(), view.data<float>() + t.size()};
}

// Does not wait for the queue.
void set_values(core::Device& device, const Tensor& t, const std::vector<float>& values) {
  const core::HostView view(device.queue(), t, core::Access::write);
  std::copy(values.begin(), values.end(), view.data<float>());
  view.upload();
}

std::unique_ptr<AsyncQueue> make_async(core::Device& device, Communicator& communicator, bool overlap) {
  if (overlap && device.kind() == core::DeviceKind::cuda) return std::make_unique<AsyncQueue>(communicator);
  return std::make_unique<AsyncQueue>(overlap ? AsyncQueue::Mode::worker : AsyncQueue::Mode::inline_);
}

}  // namespace

float total_gradient(int parameter, std::int64_t i) { return gradient_sum(parameter, i, kSamples); }

void backward(core::Device& device, Model& model, GradientReducer& reducer, int rank, int size, int passes) {
  const int share = kSamples / size / passes;
  for (int pass = 0; pass < passes; ++pass) {
    reducer.begin_pass(pass == 0, pass == passes - 1);
    for (int p = static_cast<int>(model.list.size()) - 1; p >= 0; --p) {
      core::Parameter& parameter = *model.list[static_cast<std::size_t>(p)];
      const core::GradientSlot slot = reducer.slot(parameter);
      std::vector<float> g(static_cast<std::size_t>(parameter.size()), 0.0f);
      if (slot.add) g = values_of(device, slot.gradient);
      for (std::int64_t i = 0; i < parameter.size(); ++i) {
        const int first = (rank * passes + pass) * share;
        g[std::size_t(i)] += gradient_sum(p, i, first + share) - gradient_sum(p, i, first);
      }
      set_values(device, slot.gradient, g);
      reducer.complete(parameter);
    }
  }
  reducer.finish();
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (int stage : {0, 1, 2})
    for (int passes : {1, 2})
      for (bool overlap : {false, true})
        for (std::int64_t bucket : {64, 700, 100000}) all.push_back({stage, passes, overlap, bucket});
  for (bool overlap : {false, true}) all.push_back({3, 2, overlap, 700});  // gradients as at stage 2
  return all;
}

void check_reduction(core::Device& device, Communicator& communicator, const Case& s) {
  Model model;
  const ShardPlan plan(model.specs(), communicator.size(), s.bucket);
  const ShardedParameters parameters(device, model.list, plan, communicator.rank(), s.stage, Dtype::float32);
  const auto async = make_async(device, communicator, s.overlap);
  GradientReducer reducer(device, parameters, communicator, *async, s.overlap);
  for (int repeat = 0; repeat < 2; ++repeat) {
    backward(device, model, reducer, communicator.rank(), communicator.size(), s.passes);
    for (int p = 0; p < static_cast<int>(model.list.size()); ++p) {
      const Interval kept = parameters.kept(p);
      const Tensor reduced = reducer.reduced(p);
      ASSERT_EQ(reduced.size(), kept.count());
      const std::vector<float> values = values_of(device, reduced);
      for (std::int64_t i = 0; i < kept.count(); ++i)
        ASSERT_EQ(values[std::size_t(i)], total_gradient(p, kept.begin + i)) << model.list[std::size_t(p)]->name;
    }
  }
}

std::map<std::string, std::vector<float>> check_exchange(core::Device& device, Communicator& communicator, const Case& s,
                                                         std::int64_t wave_elements, Owners kind) {
  Model model;
  const ShardPlan plan(model.specs(), communicator.size(), s.bucket);
  const OwnerPlan owners(model.tasks(), communicator.size(), wave_elements, kind);
  const ShardedParameters parameters(device, model.list, plan, communicator.rank(), s.stage, Dtype::float32);
  const auto async = make_async(device, communicator, s.overlap);
  GradientReducer reducer(device, parameters, communicator, *async, s.overlap);
  backward(device, model, reducer, communicator.rank(), communicator.size(), s.passes);

  std::map<std::string, std::vector<float>> seen;
  std::vector<int> arrived(owners.tasks().size(), 0);
  const auto parameter_of = [&](int task) { return owners.tasks()[std::size_t(task)].parameter; };
  std::vector<Tensor> pieces;
  for (const MatrixTask& task : owners.tasks()) pieces.push_back(reducer.reduced(task.parameter));
  ExactTransport transport(device, parameters, owners, pieces);
  WavePipeline pipeline(transport, communicator, *async);
  for (Wave wave; pipeline.next(wave);) {
    for (const OwnedMatrix& m : wave.mine) {
      std::vector<float> values = values_of(device, m.in);
      if (!owners.is_shared(m.task)) {
        EXPECT_EQ(m.in.shape(), model.list[std::size_t(parameter_of(m.task))]->shape);
      }
      seen[owners.tasks()[std::size_t(m.task)].name] = values;
      for (float& x : values) x *= -2;
      set_values(device, m.out, values);
    }
    pipeline.give_back(wave);
    for (const int task : wave.arrived) ++arrived[std::size_t(task)];
  }
  for (std::size_t t = 0; t < arrived.size(); ++t) {
    EXPECT_EQ(arrived[t], 1);
    const int p = parameter_of(static_cast<int>(t));
    const Interval kept = parameters.kept(p);
    const std::vector<float> values = values_of(device, reducer.reduced(p));
    for (std::int64_t i = 0; i < kept.count(); ++i)
      EXPECT_EQ(values[std::size_t(i)], -2 * total_gradient(p, kept.begin + i));
  }
  return seen;
}

}  // namespace muonp::test
