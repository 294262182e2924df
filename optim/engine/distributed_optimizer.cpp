#include "optim/engine/distributed_optimizer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/base/math.h"
#include "core/device/offload.h"
#include "dist/comm/agreement.h"
#include "optim/spectral/gradient_norm.h"

namespace muonp::optim {

using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

ParallelOptions on(const core::Device& device, ParallelOptions options) {
  options.device = device.kind();
  return options;
}

// What is wrong with a plan is wrong on all ranks.
ExecutionPlan plan_on_all(const core::ParameterList& parameters, const OptimizerConfig& config,
                          const ParallelOptions& options, dist::Communicator& communicator) {
  std::optional<ExecutionPlan> plan;
  dist::run_on_all(communicator,
                   [&] { plan.emplace(make_execution_plan(parameters, config, options, communicator.size())); });
  return *std::move(plan);
}

}  // namespace

class DistributedOptimizer::Router final : public core::GradientSink, public core::WeightSource {
 public:
  Router(core::GradientSink& reducer, core::WeightSource& weights, CompressedOptimizer& compressed)
      : reducer_(reducer), weights_(weights), compressed_(compressed) {}
  core::GradientSlot slot(core::Parameter& parameter) override { return sink(parameter).slot(parameter); }
  void complete(core::Parameter& parameter) override { sink(parameter).complete(parameter); }
  // What is compressed is whole on every rank.
  void acquire(std::span<core::Parameter* const> parameters) override {
    sharded_.clear();
    std::ranges::copy_if(parameters, std::back_inserter(sharded_),
                         [this](const core::Parameter* p) { return !compressed_.holds(*p); });
    if (!sharded_.empty()) weights_.acquire(sharded_);
  }

 private:
  core::GradientSink& sink(const core::Parameter& parameter) {
    return compressed_.holds(parameter) ? static_cast<core::GradientSink&>(compressed_) : reducer_;
  }
  core::GradientSink& reducer_;
  core::WeightSource& weights_;
  CompressedOptimizer& compressed_;
  core::ParameterList sharded_;  // of one operation
};

struct DistributedOptimizer::Kept {
  int group = 0;
  Tensor master;
  std::vector<Tensor> states;  // in the order of GroupConfig::state_names()
};

DistributedOptimizer::DistributedOptimizer(core::Device& device, const core::ParameterList& parameters,
                                           const OptimizerConfig& config, const ParallelOptions& options,
                                           dist::Communicator& communicator)
    : device_(device),
      communicator_(communicator),
      clip_(config.clip),
      plan_(plan_on_all(parameters, config, on(device, options), communicator)),
      waits_(device.queue()),
      spectral_(device.queue()) {
  dist::require_agreement(communicator, "execution plan", plan_.hash(), plan_.describe());
  parameters_ = std::make_unique<dist::ShardedParameters>(
      device, chosen(parameters, plan_.sharded), plan_.shards, communicator.rank(), options.zero, options.weight_dtype,
      options.offload);
  using Async = dist::AsyncQueue;
  if (options.overlap && device.kind() == core::DeviceKind::cuda)
    async_ = std::make_unique<Async>(communicator, &waits_);
  else
    async_ = std::make_unique<Async>(options.overlap ? Async::Mode::worker : Async::Mode::inline_, &waits_);
  reducer_ =
      std::make_unique<dist::GradientReducer>(device, *parameters_, communicator, *async_, options.overlap);
  exchange_ =
      std::make_unique<dist::OwnerExchange>(device, *parameters_, plan_.owners, communicator, *async_);
  if (plan_.gathers)
    weights_ = std::make_unique<dist::PassGatherer>(*parameters_, *plan_.gathers, communicator, *async_);
  else
    weights_ = std::make_unique<dist::StepGatherer>(*parameters_, communicator, *async_);
  for (const Group& group : plan_.sharded_groups.groups())
    matrix_steps_.push_back(group.config.is_spectral() ? make_matrix_step(group.config, device.kind()) : nullptr);
  for (int p = 0; p < core::to_int(plan_.sharded.size()); ++p) {
    Kept kept{plan_.sharded_groups.group_of(p), parameters_->master(p), {}};
    for (std::size_t s = 0; s < plan_.sharded_groups.group_for(p).config.state_names().size(); ++s)
      kept.states.push_back(
          core::zeros_in(options.offload, device, {kept.master.size()}, Dtype::float32, Category::optimizer));
    kept_.push_back(std::move(kept));
  }
  if (!plan_.compression) return;
  compressed_ = std::make_unique<CompressedOptimizer>(device, chosen(parameters, plan_.compression->parameters),
                                                      *plan_.compression, options.weight_dtype, communicator, *async_);
  router_ = std::make_unique<Router>(*reducer_, *weights_, *compressed_);
}

DistributedOptimizer::~DistributedOptimizer() = default;

void DistributedOptimizer::initialize(std::uint64_t seed) {
  parameters_->initialize(seed);
  parameters_->publish(communicator_);
  if (compressed_) compressed_->initialize(seed);
}

void DistributedOptimizer::begin_pass(bool first, bool last) {
  weights_->begin_pass(/*backward=*/true);
  reducer_->begin_pass(first, last);
  if (compressed_) compressed_->begin_pass(first);
}

core::GradientSink& DistributedOptimizer::gradients() {
  if (router_) return *router_;
  return *reducer_;
}

core::WeightSource& DistributedOptimizer::weights() {
  if (router_) return *router_;
  return *weights_;
}

SquareSum DistributedOptimizer::squares_of_slice(int parameter) const {
  // Each rank sums its own slice, at stage 0 too, so that the norm does not depend on the stage.
  const dist::Interval mine = plan_.shards.piece(parameter, communicator_.rank());
  if (mine.empty()) return {};
  const std::int64_t begin = plan_.options.zero == 0 ? mine.begin : 0;
  return sum_of_squares(device_.queue(), reducer_->reduced(parameter).flat(begin, mine.count()));
}

double DistributedOptimizer::reduce_norm() {
  const double ranks = communicator_.size();
  double values[2] = {0, 0};
  const auto add = [&](const SquareSum& squares, double weight) {
    if (squares.finite)
      values[0] += weight * squares.sum;
    else
      values[1] = 1;
  };
  // In the order of the model's parameters, compressed or not, so that the sum of one rank is the same.
  const std::size_t compressed = compressed_ ? plan_.compression->parameters.size() : 0;
  for (std::size_t s = 0, c = 0; s < plan_.sharded.size() || c < compressed;) {
    const bool take_compressed =
        c < compressed && (s == plan_.sharded.size() || plan_.compression->parameters[c] < plan_.sharded[s]);
    if (take_compressed)
      add(compressed_->squares(core::to_int(c++)), ranks);
    else
      add(squares_of_slice(core::to_int(s++)), 1);
  }
  waits_.time([&] { communicator_.all_reduce(std::span<double>(values), dist::Reduce::sum); });
  if (values[1] > 0) return NAN;
  return std::sqrt(values[0]) / ranks;
}

StepReport DistributedOptimizer::step(double lr_factor, bool wait, const std::function<bool()>& refuse) {
  StepReport report;
  weights_->finish();  // of parameters that this step's passes did not read
  reducer_->finish();
  if (compressed_) compressed_->finish();
  report.gradient_norm = reduce_norm();
  const bool refused = refuse && refuse();
  report.skipped = refused || !std::isfinite(report.gradient_norm);
  if (!report.skipped) {
    report.clip = clip_scale(report.gradient_norm, clip_);
    update(lr_factor, report.clip);
    // On a CPU the caller's next collective would meet the gathers, and one thread at a time may be in one.
    if (wait || device_.kind() == core::DeviceKind::cpu) weights_->finish();
  }
  report.spectral_seconds = core::seconds(spectral_.take());
  report.communication_seconds = core::seconds(waits_.take());
  return report;
}

void DistributedOptimizer::update(double lr_factor, double clip) {
  const double gradient_scale = clip / communicator_.size();
  ++steps_;
  pending_.clear();
  for (const dist::Bucket& bucket : plan_.shards.buckets()) pending_.push_back(core::to_int(bucket.parameters.size()));
  for (int p = 0; p < core::to_int(kept_.size()); ++p)
    if (!matrix_steps_[at(kept_[at(p)].group)] || plan_.shards.in_bucket(p).empty())
      update_elementwise(p, lr_factor, gradient_scale);
  update_matrices(lr_factor, gradient_scale);
  if (compressed_) compressed_->step(lr_factor, clip, steps_, spectral_);
}

void DistributedOptimizer::update_elementwise(int parameter, double lr_factor, double gradient_scale) {
  const Kept& kept = kept_[at(parameter)];
  const GroupConfig& group = plan_.sharded_groups.group_for(parameter).config;
  if (kept.master.size() > 0) {
    const Tensor gradient = reducer_->reduced(parameter);
    const double lr = group.lr * lr_factor;
    std::vector<Tensor> moved = {kept.master};
    moved.insert(moved.end(), kept.states.begin(), kept.states.end());
    const auto update = [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> t) {
      const Tensor g = gradient.flat(begin, count);
      elementwise_update(device_.queue(), group, lr, steps_, gradient_scale, t[0], g, t.subspan(1));
    };
    core::compute_in_pieces(device_, moved, core::Pieces::changed, update);
  }
  publish_when_complete(parameter);
}

void DistributedOptimizer::update_matrices(double lr_factor, double gradient_scale) {
  const auto parameter_of = [this](int task) { return plan_.owners.tasks()[at(task)].parameter; };
  for (const dist::MatrixTask& task : plan_.owners.tasks()) {
    const Kept& kept = kept_[at(task.parameter)];
    if (kept.master.size() == 0) continue;
    const Tensor gradient = reducer_->reduced(task.parameter);
    const auto update = [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> momentum) {
      muonp_momentum(device_.queue(), plan_.sharded_groups.group_for(task.parameter).config.muonp(), gradient_scale,
                     gradient.flat(begin, count), momentum[0]);
    };
    core::compute_in_pieces(device_, {kept.states[0]}, core::Pieces::changed, update);
  }
  exchange_->run([&](int task) { return reducer_->reduced(parameter_of(task)); },
                 [&](std::span<const dist::OwnedMatrix> mine) { spectral_.time([&] { compute_wave(mine); }); },
                 [&](int task) {
                   const int p = parameter_of(task);
                   const GroupConfig& group = plan_.sharded_groups.group_for(p).config;
                   const Kept& kept = kept_[at(p)];
                   const Tensor result = reducer_->reduced(p);
                   const auto move = [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> master) {
                     apply_update(device_.queue(), master[0], result.flat(begin, count), group.lr * lr_factor,
                                  group.weight_decay);
                   };
                   if (kept.master.size() > 0)
                     core::compute_in_pieces(device_, {kept.master}, core::Pieces::changed, move);
                   publish_when_complete(p);
                 });
}

void DistributedOptimizer::compute_wave(std::span<const dist::OwnedMatrix> matrices) {
  std::vector<std::vector<MatrixInput>> inputs(matrix_steps_.size());
  for (const dist::OwnedMatrix& matrix : matrices) {
    const int p = plan_.owners.tasks()[at(matrix.task)].parameter;
    const dist::ParameterSpec& spec = plan_.shards.parameters()[at(p)];
    if (observe_) observe_(spec.name, matrix.in);
    inputs[at(kept_[at(p)].group)].push_back(
        {spec.name, spec.shape, plan_.sharded_groups.split_of(p), matrix.in, matrix.out});
  }
  for (std::size_t g = 0; g < inputs.size(); ++g)
    if (!inputs[g].empty()) matrix_steps_[g]->compute(device_, inputs[g]);
}

// Every rank updates its parameters in the same order, so the all-gathers of weights match.
void DistributedOptimizer::publish_when_complete(int parameter) {
  const int bucket = plan_.shards.bucket_of(parameter);
  if (--pending_[at(bucket)] > 0) return;
  parameters_->cast_to_weights(bucket);
  weights_->updated(bucket);
}

std::vector<StateTensor> DistributedOptimizer::state(bool for_saving) const {
  std::vector<StateTensor> tensors;
  for (int p = 0; p < core::to_int(kept_.size()); ++p) {
    const dist::ParameterSpec& spec = plan_.shards.parameters()[at(p)];
    // At stage 0 every rank keeps the whole, and saves its slice.
    const dist::Interval mine =
        for_saving ? plan_.shards.piece(p, communicator_.rank()) : parameters_->kept(p);
    if (mine.empty()) continue;
    const std::int64_t begin = mine.begin - parameters_->kept(p).begin;
    const auto add = [&](std::string_view what, const Tensor& data) {
      tensors.push_back(
          {fmt::format("{}/{}", spec.name, what), spec.shape, mine, data.flat(begin, mine.count())});
    };
    add("master", kept_[at(p)].master);
    const auto names = plan_.sharded_groups.group_for(p).config.state_names();
    for (std::size_t s = 0; s < names.size(); ++s) add(names[s], kept_[at(p)].states[s]);
  }
  if (compressed_)
    for (StateTensor& tensor : compressed_->state(for_saving)) tensors.push_back(std::move(tensor));
  return tensors;
}

std::vector<StateTensor> DistributedOptimizer::state_to_save() const { return state(true); }

void DistributedOptimizer::load_state(std::int64_t steps,
                                      const std::function<void(const StateTensor&)>& fill) {
  weights_->finish();
  std::exception_ptr failure;
  try {
    for (const StateTensor& tensor : state(false)) fill(tensor);
  } catch (...) {
    failure = std::current_exception();
  }
  dist::rethrow_on_all(communicator_, failure);
  steps_ = steps;
  parameters_->publish(communicator_);
  if (compressed_) compressed_->loaded();
}

void DistributedOptimizer::require_equal_weights() {
  weights_->finish();
  std::uint64_t hash = parameters_->weights_hash(communicator_);
  if (compressed_) hash = compressed_->weights_hash(hash);
  dist::require_agreement(communicator_, "weights", hash,
                          fmt::format("hash of the weights {:016x} after step {}", hash, steps_));
}

}  // namespace muonp::optim
