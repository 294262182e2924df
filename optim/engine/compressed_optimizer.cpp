#include "optim/engine/compressed_optimizer.h"

#include "core/base/hash.h"
#include "core/base/math.h"
#include "core/device/host_view.h"
#include "dist/comm/operation.h"
#include "optim/plan/execution_plan.h"
#include "optim/spectral/elementwise.h"

namespace muonp::optim {

using core::Category;
using core::Dtype;
using core::Tensor;
using dist::Interval;

namespace {
std::size_t at(int i) { return static_cast<std::size_t>(i); }
}  // namespace

CompressedOptimizer::CompressedOptimizer(core::Device& device, core::ParameterList parameters, const CompressionPlan& plan,
                                         Dtype weight_dtype, dist::Communicator& communicator, dist::AsyncQueue& async)
    : device_(device), parameters_(std::move(parameters)), plan_(plan), communicator_(communicator) {
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) index_[parameters_[at(p)]] = p;
  weights_.resize(parameters_.size());
  gradients_.resize(parameters_.size());
  std::vector<Tensor> exchanged;  // W of each of the feedback's matrices
  const auto allocate = [&](std::int64_t n, Category category) {
    return Tensor::zeros(device, {n}, Dtype::float32, category);
  };
  const Category of_weights = weight_dtype == Dtype::float32 ? Category::weights : Category::optimizer;
  for (const dist::MatrixTask& task : plan.owners.tasks()) {
    const int p = task.parameter;
    weights_[at(p)] = allocate(task.elements, of_weights);
    gradients_[at(p)] = allocate(task.elements, Category::gradients);
    exchanged.push_back(weights_[at(p)]);
    matrices_.push_back({p, gradients_[at(p)], allocate(task.elements, Category::optimizer)});
  }
  for (int b = 0; plan.flat.padded_elements() > 0 && b < core::to_int(plan.flat.buckets().size()); ++b) {
    const dist::Bucket& layout = plan.flat.buckets()[at(b)];
    const Tensor weights = allocate(layout.size, of_weights);
    Bucket bucket{allocate(layout.size, Category::gradients), {}};
    for (const int p : layout.parameters) {
      const Interval where = plan.flat.in_bucket(p), piece = plan.flat.piece(p, communicator.rank());
      if (where.empty()) continue;
      weights_[at(p)] = weights.flat(where.begin, where.count());
      gradients_[at(p)] = bucket.gradient.flat(where.begin, where.count());
      if (piece.empty()) continue;
      const std::int64_t begin = where.begin + piece.begin - plan.flat.slice(b, communicator.rank()).begin;
      Piece& mine = bucket.mine.emplace_back(Piece{p, piece, {begin, begin + piece.count()}, {}});
      for (std::size_t s = 0; s < config_of(p).state_names().size(); ++s)
        mine.states.push_back(allocate(piece.count(), Category::optimizer));
    }
    for (int r = 0; r < communicator.size(); ++r) {
      const Interval slice = plan.flat.slice(b, r);
      exchanged.push_back(weights.flat(slice.begin, slice.count()));
    }
    buckets_.push_back(std::move(bucket));
  }
  for (const Group& group : plan.groups.groups())
    matrix_steps_.push_back(group.config.is_spectral() ? make_matrix_step(group.config, device.kind()) : nullptr);
  feedback_ = std::make_unique<dist::ErrorFeedback>(device, plan.feedback, std::move(exchanged), communicator, async);
  place_weights(weight_dtype);
}

void CompressedOptimizer::place_weights(Dtype weight_dtype) {
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) {
    core::Parameter& parameter = *parameters_[at(p)];
    parameter.value = weight_dtype == Dtype::float32
                          ? weights_[at(p)].view(parameter.shape)
                          : Tensor::zeros(device_, parameter.shape, weight_dtype, Category::weights);
  }
}

void CompressedOptimizer::initialize(std::uint64_t seed) {
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) {
    const core::HostView host(device_.queue(), weights_[at(p)], core::Access::write);
    core::initialize(*parameters_[at(p)], seed, 0, weights_[at(p)].size(), host.data<float>());
    host.upload();
  }
  for (int i = 0; i < core::to_int(plan_.feedback.matrices.size()); ++i)
    if (feedback_->owns(i)) feedback_->master(i).copy_from(device_.queue(), feedback_->weights(i));
  loaded();
}

void CompressedOptimizer::loaded() {
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) cast(p);
}

std::uint64_t CompressedOptimizer::weights_hash(std::uint64_t seed) const {
  for (const Tensor& weights : weights_)
    seed = core::hash_bytes(core::HostView(device_.queue(), weights, core::Access::read).raw(), weights.bytes(), seed);
  return seed;
}

// W of a parameter to what the forward pass reads.
void CompressedOptimizer::cast(int parameter) {
  const Tensor& value = parameters_[at(parameter)]->value;
  if (value.dtype() == Dtype::float32) return;
  spectral::copy_scaled(device_.queue(), core::MatrixView(weights_[at(parameter)]), 1,
                        core::MatrixView(value.view({value.size()})));
}

// ---- gradients: this rank's own, summed over passes ----

void CompressedOptimizer::begin_pass(bool first) {
  if (first) written_.assign(parameters_.size(), false);
  complete_.assign(parameters_.size(), false);
}

core::GradientSlot CompressedOptimizer::slot(core::Parameter& parameter) {
  const int p = index_.at(&parameter);
  parameter.gradient = gradients_[at(p)].view(parameter.shape);
  const bool add = written_[at(p)];
  written_[at(p)] = true;
  return {parameter.gradient, add};
}

void CompressedOptimizer::complete(core::Parameter& parameter) {
  const int p = index_.at(&parameter);
  MUONP_ASSERT(written_[at(p)] && !complete_[at(p)], "{} completed without a gradient, or twice", parameter.name);
  complete_[at(p)] = true;
}

void CompressedOptimizer::finish() const {
  for (std::size_t p = 0; p < parameters_.size(); ++p)
    MUONP_ASSERT(!complete_.empty() && complete_[p], "{}: no gradient in this step", parameters_[p]->name);
}

SquareSum CompressedOptimizer::squares(int parameter) const {
  return sum_of_squares(device_.queue(), gradients_[at(parameter)]);
}

// ---- a step ----

dist::ErrorFeedback::Target CompressedOptimizer::target(int matrix, double gradient_scale) {
  if (matrix < plan_.matrices()) {
    const Matrix& m = matrices_[at(matrix)];
    muonp_momentum(device_.queue(), config_of(m.parameter).muonp(), gradient_scale, m.gradient, m.momentum);
    return {m.gradient, 1};
  }
  const int n = communicator_.size(), bucket = (matrix - plan_.matrices()) / n, rank = (matrix - plan_.matrices()) % n;
  const Interval slice = plan_.flat.slice(bucket, rank);
  return {buckets_[at(bucket)].gradient.flat(slice.begin, slice.count()), static_cast<float>(gradient_scale)};
}

void CompressedOptimizer::step(double lr_factor, double gradient_scale, std::int64_t steps, core::Stopwatch& spectral) {
  feedback_->round(
      static_cast<std::uint64_t>(steps), [&](int i) { return target(i, gradient_scale); },
      [&](std::span<const int> mine) { move(mine, lr_factor, steps, spectral); },
      [&](int i) {
        if (i < plan_.matrices()) cast(matrices_[at(i)].parameter);
      });
  for (int p = 0; p < core::to_int(parameters_.size()); ++p)
    if (!matrix_steps_[at(plan_.groups.group_of(p))]) cast(p);
}

void CompressedOptimizer::move(std::span<const int> mine, double lr_factor, std::int64_t steps, core::Stopwatch& spectral) {
  spectral.time([&] { move_matrices(mine, lr_factor); });
  for (const int i : mine)
    if (i >= plan_.matrices()) move_slice((i - plan_.matrices()) / communicator_.size(), lr_factor, steps);
}

// X ← (1 − lr·λ)X − lr·scale·U Sᵖ Vᵀ of G.
void CompressedOptimizer::move_matrices(std::span<const int> mine, double lr_factor) {
  std::vector<std::vector<MatrixInput>> inputs(matrix_steps_.size());
  std::vector<std::pair<int, Tensor>> updates;
  for (const int i : mine) {
    if (i >= plan_.matrices()) continue;
    const int p = matrices_[at(i)].parameter;
    const core::Parameter& parameter = *parameters_[at(p)];
    const Tensor out = Tensor::empty(device_, {parameter.size()}, Dtype::float32, Category::exchange);
    inputs[at(plan_.groups.group_of(p))].push_back(
        {parameter.name, parameter.shape, plan_.groups.split_of(p), feedback_->mean(i), out});
    updates.emplace_back(i, out);
  }
  for (std::size_t g = 0; g < inputs.size(); ++g)
    if (!inputs[g].empty()) matrix_steps_[g]->compute(device_, inputs[g]);
  for (const auto& [i, update] : updates) {
    const GroupConfig& group = config_of(matrices_[at(i)].parameter);
    apply_update(device_.queue(), feedback_->master(i), update, group.lr * lr_factor, group.weight_decay);
  }
}

void CompressedOptimizer::move_slice(int bucket, double lr_factor, std::int64_t steps) {
  const int slice = plan_.slice(bucket, communicator_.rank());
  for (const Piece& piece : buckets_[at(bucket)].mine) {
    const GroupConfig& group = config_of(piece.parameter);
    const Tensor master = feedback_->master(slice).flat(piece.in_slice.begin, piece.in_slice.count());
    const Tensor gradient = feedback_->mean(slice).flat(piece.in_slice.begin, piece.in_slice.count());
    const double lr = group.lr * lr_factor;
    elementwise_update(device_.queue(), group, lr, steps, 1, master, gradient, piece.states);
  }
}

// ---- checkpoints ----

std::vector<StateTensor> CompressedOptimizer::state(bool for_saving) const {
  std::vector<StateTensor> tensors;
  for (int i = 0; i < plan_.matrices(); ++i) add_matrix_state(i, for_saving, tensors);
  for (int b = 0; b < core::to_int(buckets_.size()); ++b) add_bucket_state(b, for_saving, tensors);
  return tensors;
}

void CompressedOptimizer::add_matrix_state(int matrix, bool for_saving, std::vector<StateTensor>& to) const {
  const core::Parameter& parameter = *parameters_[at(matrices_[at(matrix)].parameter)];
  const int rank = communicator_.rank();
  const auto add = [&](const std::string& what, const core::Shape& shape, Interval interval, const Tensor& data) {
    if (!interval.empty())
      to.push_back(
          {fmt::format("{}/{}", parameter.name, what), shape, interval, data.flat(interval.begin, interval.count())});
  };
  const auto whole = [&](const std::string& what, const Tensor& data) {
    add(what, parameter.shape, {0, data.size()}, data);
  };
  const auto state = [&](const std::string& what, const Tensor& data) { add(what, {data.size()}, {0, data.size()}, data); };
  // All have W: they share the writing of it.
  const Tensor& weights = feedback_->weights(matrix);
  const dist::Cut part = dist::cut(weights.size(), communicator_.size(), rank);
  add("weights", parameter.shape,
      for_saving ? Interval{part.begin, part.begin + part.count} : Interval{0, weights.size()}, weights);
  whole(fmt::format("momentum#{}", rank), matrices_[at(matrix)].momentum);
  whole(fmt::format("estimate#{}", rank), feedback_->estimate(matrix));
  state(fmt::format("basis#{}", rank), feedback_->state_to_owner(matrix));
  if (!feedback_->owns(matrix)) return;
  whole("master", feedback_->master(matrix));
  whole("mean_estimate", feedback_->mean(matrix));
  state("basis", feedback_->state_to_workers(matrix));
}

void CompressedOptimizer::add_bucket_state(int bucket, bool for_saving, std::vector<StateTensor>& to) const {
  const int rank = communicator_.rank();
  for (const int p : plan_.flat.buckets()[at(bucket)].parameters) {
    if (plan_.flat.in_bucket(p).empty()) continue;
    const core::Parameter& parameter = *parameters_[at(p)];
    const std::int64_t in_bucket = plan_.flat.in_bucket(p).begin;
    const auto add = [&](const std::string& what, Interval interval, const Tensor& data) {
      if (!interval.empty())
        to.push_back({fmt::format("{}/{}", parameter.name, what), parameter.shape, interval, data});
    };
    const dist::Cut part = dist::cut(parameter.size(), communicator_.size(), rank);
    const Interval share = for_saving ? Interval{part.begin, part.begin + part.count} : Interval{0, parameter.size()};
    add("weights", share, weights_[at(p)].flat(share.begin, share.count()));
    // Estimates lie in slices.
    const Interval ranks = plan_.flat.ranks_of(p);
    for (int r = core::to_int(ranks.begin); r < ranks.end; ++r) {
      const Interval piece = plan_.flat.piece(p, r);
      const std::int64_t begin = in_bucket + piece.begin - plan_.flat.slice(bucket, r).begin;
      add(fmt::format("estimate#{}", rank), piece, feedback_->estimate(plan_.slice(bucket, r)).flat(begin, piece.count()));
    }
  }
  const int slice = plan_.slice(bucket, rank);
  for (const Piece& piece : buckets_[at(bucket)].mine) {
    const core::Parameter& parameter = *parameters_[at(piece.parameter)];
    const auto add = [&](std::string_view what, const Tensor& data) {
      to.push_back({fmt::format("{}/{}", parameter.name, what), parameter.shape, piece.in_parameter, data});
    };
    const auto part = [&](const Tensor& of_slice) { return of_slice.flat(piece.in_slice.begin, piece.in_slice.count()); };
    add("master", part(feedback_->master(slice)));
    add("mean_estimate", part(feedback_->mean(slice)));
    const auto names = config_of(piece.parameter).state_names();
    for (std::size_t s = 0; s < names.size(); ++s) add(names[s], piece.states[s]);
  }
}

}  // namespace muonp::optim
