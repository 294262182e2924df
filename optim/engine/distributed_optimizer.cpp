#include "optim/engine/distributed_optimizer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/comm/agreement.h"

namespace muonp::optim {

using core::at;

namespace {

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

std::unique_ptr<dist::AsyncQueue> make_async(const core::Device& device, dist::Communicator& communicator, bool overlap,
                                             core::Stopwatch& waits) {
  using Async = dist::AsyncQueue;
  if (overlap && device.kind() == core::DeviceKind::cuda) return std::make_unique<Async>(communicator, &waits);
  return std::make_unique<Async>(overlap ? Async::Mode::worker : Async::Mode::inline_, &waits);
}

}  // namespace

// Gradients go to the part of their parameter. Weights come from the sharded part and from the frozen ones: what is
// compressed is whole on every rank.
class DistributedOptimizer::ByParameter final : public core::GradientSink, public core::WeightSource {
 public:
  ByParameter(const core::ParameterList& parameters, const std::vector<Place>& places, Part& sharded,
              core::WeightSource& weights, core::WeightSource* frozen)
      : sharded_(sharded), weights_(weights), frozen_(frozen) {
    for (std::size_t p = 0; p < parameters.size(); ++p) part_of_[parameters[p]] = places[p].part;
  }
  core::GradientSlot slot(core::Parameter& parameter) override { return part_of_.at(&parameter)->slot(parameter); }
  void complete(core::Parameter& parameter) override { part_of_.at(&parameter)->complete(parameter); }
  void acquire(std::span<core::Parameter* const> parameters) override {
    acquire(weights_, parameters, [this](const core::Parameter* p) { return p->trained && part_of_.at(p) == &sharded_; });
    if (frozen_) acquire(*frozen_, parameters, [](const core::Parameter* p) { return !p->trained; });
  }

 private:
  template <class Chosen>
  void acquire(core::WeightSource& source, std::span<core::Parameter* const> parameters, const Chosen& chosen) {
    acquired_.clear();
    std::ranges::copy_if(parameters, std::back_inserter(acquired_), chosen);
    if (!acquired_.empty()) source.acquire(acquired_);
  }

  Part& sharded_;
  core::WeightSource& weights_;
  core::WeightSource* frozen_;
  std::unordered_map<const core::Parameter*, Part*> part_of_;
  core::ParameterList acquired_;  // of one operation
};

DistributedOptimizer::DistributedOptimizer(core::Device& device, const core::ParameterList& model,
                                           const OptimizerConfig& config, const ParallelOptions& options,
                                           dist::Communicator& communicator)
    : device_(device),
      parameters_(core::trained_of(model)),
      communicator_(communicator),
      clip_(config.clip),
      plan_(plan_on_all(model, config, on(device, options), communicator)),
      waits_(device.queue(), "communication"),
      matrix_time_(device.queue(), "spectral"),
      measuring_(device.queue(), "measurement"),
      sharing_(device.queue(), "exchange of owner groups") {
  dist::require_agreement(communicator, "execution plan", plan_.hash(), plan_.describe());
  async_ = make_async(device, communicator, options.overlap, waits_);
  places_.resize(parameters_.size());
  norms_.resize(parameters_.size());
  const auto place = [&](Part& part, const std::vector<int>& indices) {
    parts_.push_back(&part);
    for (int i = 0; i < core::to_int(indices.size()); ++i) places_[at(indices[at(i)])] = {&part, i};
  };
  sharded_ = std::make_unique<ShardedPart>(device, chosen(parameters_, plan_.sharded), plan_, communicator, *async_,
                                           measuring_, sharing_);
  place(*sharded_, plan_.sharded);
  if (plan_.compression) {
    feedback_ =
        std::make_unique<FeedbackPart>(device, chosen(parameters_, plan_.compression->parameters), *plan_.compression,
                                       options.weight_dtype, options.spectra, communicator, *async_, measuring_);
    place(*feedback_, plan_.compression->parameters);
  }
  if (plan_.frozen) frozen_ = std::make_unique<FrozenWeights>(device, core::frozen_of(model), plan_, communicator, *async_);
  if (feedback_ || frozen_)
    by_parameter_ = std::make_unique<ByParameter>(parameters_, places_, *sharded_, sharded_->weights(), frozen_.get());
}

DistributedOptimizer::~DistributedOptimizer() = default;

void DistributedOptimizer::initialize(std::uint64_t seed) {
  for (const Place& place : places_) place.part->fill(place.index, core::random_weights(seed));
  for (Part* part : parts_) part->initialized();
  if (!frozen_) return;
  for (int p = 0; p < core::to_int(frozen_->parameters().size()); ++p) frozen_->fill(p, core::random_weights(seed));
  frozen_->filled();
}

void DistributedOptimizer::fill_on_all(const core::Parameter& parameter, const std::function<void()>& fill,
                                       const std::function<void(const core::Parameter&)>& met) {
  dist::run_on_all(communicator_, fill);
  met(parameter);
}

void DistributedOptimizer::initialize(const core::WeightFiller& fill,
                                      const std::function<void(const core::Parameter&)>& met) {
  for (std::size_t p = 0; p < places_.size(); ++p)
    fill_on_all(
        *parameters_[p], [&] { places_[p].part->fill(places_[p].index, fill); }, met);
  for (Part* part : parts_) part->initialized();
  fill_frozen(fill, met);
}

void DistributedOptimizer::fill_frozen(const core::WeightFiller& fill,
                                       const std::function<void(const core::Parameter&)>& met) {
  if (!frozen_) return;
  const core::ParameterList& frozen = frozen_->parameters();
  for (int p = 0; p < core::to_int(frozen.size()); ++p)
    fill_on_all(
        *frozen[at(p)], [&] { frozen_->fill(p, fill); }, met);
  frozen_->filled();
}

void DistributedOptimizer::begin_weights(bool backward) {
  sharded_->weights().begin_pass(backward);
  if (frozen_) frozen_->begin_pass(backward);
}

void DistributedOptimizer::finish_weights() {
  sharded_->weights().finish();
  if (frozen_) frozen_->finish();
}

void DistributedOptimizer::begin_pass(bool first, bool last) {
  begin_weights(/*backward=*/true);
  for (Part* part : parts_) part->begin_pass(first, last);
}

bool DistributedOptimizer::has_averages() const {
  return std::ranges::any_of(plan_.groups.groups(),
                             [](const Group& group) { return group.config.rule->evaluates_average(); });
}

void DistributedOptimizer::hold_averages() {
  if (!has_averages()) return;
  finish_weights();
  sharded_->hold_averages();
}

void DistributedOptimizer::release_averages() {
  if (!has_averages()) return;
  finish_weights();
  sharded_->release_weights();
}

bool DistributedOptimizer::needs_old_gradients() const {
  return std::ranges::any_of(plan_.groups.groups(),
                             [](const Group& group) { return group.config.rule->needs().old_gradient; });
}

void DistributedOptimizer::hold_old_weights() {
  finish_weights();
  sharded_->hold_old_weights();
}

void DistributedOptimizer::keep_old_gradients() {
  finish_weights();
  for (Part* part : parts_) part->finish_passes();
  sharded_->keep_old_gradients();
  sharded_->release_weights();
}

core::GradientSink& DistributedOptimizer::gradients() {
  if (by_parameter_) return *by_parameter_;
  return *sharded_;
}

core::WeightSource& DistributedOptimizer::weights() {
  if (by_parameter_) return *by_parameter_;
  return sharded_->weights();
}

// Squares of gradients summed over ranks: their sum, then how many ranks found one that is not finite, then those of
// parameters whose rule needs them. In the order of the model's parameters, so that the sum of one rank is the same whatever
// is compressed.
std::vector<double> DistributedOptimizer::reduced_squares() {
  std::vector<core::Tensor> pieces;
  std::vector<double> weights;
  for (const Place& place : places_) {
    Part::NormPiece piece = place.part->norm_piece(place.index);
    pieces.push_back(std::move(piece.values));
    weights.push_back(piece.weight);
  }
  const std::vector<SquareSum> sums = sums_of_squares(device_.queue(), pieces);
  std::vector<double> values = {0, 0};
  for (int p = 0; p < core::to_int(places_.size()); ++p) {
    SquareSum squares = sums[at(p)];
    squares.sum *= weights[at(p)];
    if (squares.finite)
      values[0] += squares.sum;
    else
      values[1] = 1;
    if (plan_.groups.group_for(p).config.rule->needs().gradient_norm) values.push_back(squares.sum);
  }
  waits_.time([&] { communicator_.all_reduce(std::span<double>(values), dist::Reduce::sum); });
  return values;
}

GradientNorm DistributedOptimizer::prepare() {
  finish_weights();  // of parameters that this step's passes did not read
  for (Part* part : parts_) part->finish_passes();
  const std::vector<double> squares = reduced_squares();
  const double ranks = communicator_.size();
  prepared_.finite = squares[1] == 0 && std::isfinite(squares[0]);
  prepared_.value = squares[1] > 0 ? NAN : std::sqrt(squares[0]) / ranks;
  for (std::size_t p = 0, s = 2; p < norms_.size(); ++p)
    if (plan_.groups.group_for(core::to_int(p)).config.rule->needs().gradient_norm)
      norms_[p] = std::sqrt(squares[s++]) / ranks;
  return prepared_;
}

StepReport DistributedOptimizer::apply(double lr_factor, const StepOptions& how) {
  const bool needed = std::ranges::any_of(plan_.groups.groups(), [](const Group& g) { return g.config.rule->needs().loss; });
  MUONP_ASSERT(!needed || std::isfinite(how.loss), "a rule needs the loss of the step, and it is {}", how.loss);
  const double clip = clip_scale(prepared_.value, clip_);
  const std::vector<WeightScales> scales = scales_by_parameter(parameters_, how.scales);
  ++steps_;
  for (Part* part : parts_)
    part->update({.step = steps_,
                  .lr_factor = lr_factor,
                  .clip = clip,
                  .loss = needed ? how.loss : 0,
                  .norms = norms_,
                  .scales = scales,
                  .measure = how.measure},
                 matrix_time_);
  // On a CPU the caller's next collective would meet the gathers, and one thread at a time may be in one.
  if (how.wait || how.measure || device_.kind() == core::DeviceKind::cpu) sharded_->weights().finish();
  std::vector<MatrixRecord> spectra = how.measure ? gather_spectra() : std::vector<MatrixRecord>{};
  std::vector<ShownState> shown = shown_states();
  StepReport result = report();
  result.clip = clip;
  result.shown = std::move(shown);
  result.spectra = std::move(spectra);
  return result;
}

std::vector<MatrixRecord> DistributedOptimizer::gather_spectra() {
  std::vector<MeasuredMatrix> measured;
  std::vector<MatrixRecord> records;
  measuring_.time([&] {
    for (Part* part : parts_) std::ranges::copy(part->take_measured(), std::back_inserter(measured));
    records = gather_records(communicator_, parameters_, plan_.groups, measured);
  });
  return records;
}

// Each value is its owner's, and zero elsewhere.
std::vector<ShownState> DistributedOptimizer::shown_states() {
  std::vector<ShownState> all;
  for (const Part* part : parts_)
    for (ShownState& state : part->shown(steps_)) all.push_back(std::move(state));
  if (all.empty()) return all;
  sharded_->weights().finish();
  std::vector<double> values;
  for (const ShownState& state : all) values.push_back(state.value);
  waits_.time([&] { communicator_.all_reduce(std::span<double>(values), dist::Reduce::sum); });
  for (std::size_t i = 0; i < all.size(); ++i) all[i].value = values[i];
  return all;
}

StepReport DistributedOptimizer::skip() {
  StepReport result = report();
  result.skipped = true;
  return result;
}

StepReport DistributedOptimizer::step(double lr_factor, const StepOptions& how) {
  return prepare().finite ? apply(lr_factor, how) : skip();
}

StepReport DistributedOptimizer::report() {
  StepReport report;
  report.gradient_norm = prepared_.value;
  report.spectral_seconds = core::seconds(matrix_time_.take()) - core::seconds(sharing_.take());
  report.communication_seconds = core::seconds(waits_.take());
  report.spectra_seconds = core::seconds(measuring_.take());
  prepared_ = {};
  return report;
}

std::vector<StateTensor> DistributedOptimizer::state(bool for_saving) const {
  std::vector<StateTensor> tensors;
  for (const Part* part : parts_)
    for (StateTensor& tensor : part->state(for_saving)) tensors.push_back(std::move(tensor));
  return tensors;
}

void DistributedOptimizer::load_state(std::int64_t steps, const std::function<void(const StateTensor&)>& fill) {
  finish_weights();
  std::exception_ptr failure;
  try {
    for (const StateTensor& tensor : state(false)) fill(tensor);
  } catch (...) {
    failure = std::current_exception();
  }
  dist::rethrow_on_all(communicator_, failure);
  steps_ = steps;
  for (Part* part : parts_) part->loaded();
}

void DistributedOptimizer::require_equal_weights() {
  finish_weights();
  std::uint64_t hash = 0;
  for (Part* part : parts_) hash = part->weights_hash(hash);
  if (frozen_) {
    const std::uint64_t frozen = frozen_->weights_hash();
    hash = core::hash_bytes(&frozen, std::int64_t{sizeof frozen}, hash);
  }
  dist::require_agreement(communicator_, "weights", hash,
                          fmt::format("hash of the weights {:016x} after step {}", hash, steps_));
}

}  // namespace muonp::optim
