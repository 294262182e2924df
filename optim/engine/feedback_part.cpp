#include "optim/engine/feedback_part.h"

#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "core/device/host_view.h"
#include "dist/comm/operation.h"
#include "optim/spectral/elementwise.h"

namespace muonp::optim {

using core::at;
using core::Category;
using core::Dtype;
using core::Tensor;
using dist::Interval;

FeedbackPart::FeedbackPart(core::Device& device, core::ParameterList parameters, const CompressionPlan& plan,
                           Dtype weight_dtype, const std::vector<std::string>& spectra, dist::Communicator& communicator,
                           dist::AsyncQueue& async, core::Stopwatch& measuring)
    : device_(device),
      parameters_(std::move(parameters)),
      plan_(plan),
      communicator_(communicator),
      async_(async),
      owner_(device, plan.owners, plan.groups, plan.specs, communicator.rank(), /*offload=*/false),
      measuring_(measuring),
      diagnostics_(device, plan.groups, plan.specs, plan.parameters, spectra) {
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) index_[parameters_[at(p)]] = p;
  weights_.resize(parameters_.size());
  gradients_.resize(parameters_.size());
  if (plan.estimates.narrow()) estimates_ = std::make_unique<NarrowEstimates>(device, plan, communicator.rank());
  feedback_ = std::make_unique<dist::ErrorFeedback>(device, plan.feedback, allocate(weight_dtype), communicator.rank(),
                                                    communicator.size(), estimates_.get());
  place_weights(weight_dtype);
}

// Returns W of each of the feedback's matrices.
std::vector<Tensor> FeedbackPart::allocate(Dtype weight_dtype) {
  std::vector<Tensor> exchanged;
  const Category of_weights = weight_dtype == Dtype::float32 ? Category::weights : Category::optimizer;
  for (const dist::MatrixTask& task : plan_.owners.tasks()) {
    const int p = task.parameter;
    const auto zeros = [&](Category category) { return Tensor::zeros(device_, {task.elements}, Dtype::float32, category); };
    weights_[at(p)] = zeros(of_weights);
    gradients_[at(p)] = zeros(Category::gradients);
    exchanged.push_back(weights_[at(p)]);
    matrices_.push_back({p, gradients_[at(p)],
                         stored_states(device_, config_of(p), parameters_[at(p)]->name, {0, task.elements},
                                       fmt::format("#{}", communicator_.rank()), /*in_host_memory=*/false)});
  }
  for (int b = 0; plan_.flat.padded_elements() > 0 && b < core::to_int(plan_.flat.buckets().size()); ++b)
    allocate_bucket(b, of_weights, exchanged);
  return exchanged;
}

void FeedbackPart::allocate_bucket(int b, Category of_weights, std::vector<Tensor>& exchanged) {
  const auto zeros = [&](std::int64_t n, Category category) {
    return Tensor::zeros(device_, {n}, Dtype::float32, category);
  };
  const dist::Bucket& layout = plan_.flat.buckets()[at(b)];
  const Tensor weights = zeros(layout.size, of_weights);
  FlatBucket bucket{zeros(layout.size, Category::gradients), {}};
  for (const int p : layout.parameters) {
    const Interval where = plan_.flat.in_bucket(p), piece = plan_.flat.piece(p, communicator_.rank());
    if (where.empty()) continue;
    weights_[at(p)] = weights.flat(where.begin, where.count());
    gradients_[at(p)] = bucket.gradient.flat(where.begin, where.count());
    if (piece.empty()) continue;
    const std::int64_t begin = where.begin + piece.begin - plan_.flat.slice(b, communicator_.rank()).begin;
    bucket.mine.push_back({p,
                           piece,
                           {begin, begin + piece.count()},
                           stored_states(device_, config_of(p), parameters_[at(p)]->name, piece, "",
                                         /*in_host_memory=*/false)});
  }
  for (int r = 0; r < communicator_.size(); ++r) {
    const Interval slice = plan_.flat.slice(b, r);
    exchanged.push_back(weights.flat(slice.begin, slice.count()));
  }
  buckets_.push_back(std::move(bucket));
}

void FeedbackPart::place_weights(Dtype weight_dtype) {
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) {
    core::Parameter& parameter = *parameters_[at(p)];
    parameter.value = weight_dtype == Dtype::float32
                          ? weights_[at(p)].view(parameter.shape)
                          : Tensor::zeros(device_, parameter.shape, weight_dtype, Category::weights);
  }
}

void FeedbackPart::fill(int parameter, const core::WeightFiller& fill) {
  const Tensor& weights = weights_[at(parameter)];
  const core::HostView host(device_.queue(), weights, core::Access::write);
  fill(*parameters_[at(parameter)], 0, weights.size(), host.data<float>());
  host.upload();
}

void FeedbackPart::initialized() {
  for (int i = 0; i < core::to_int(plan_.feedback.matrices.size()); ++i)
    if (feedback_->owns(i)) feedback_->master(i).copy_from(device_.queue(), feedback_->weights(i));
  loaded();
}

void FeedbackPart::loaded() {
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) cast(p);
}

std::uint64_t FeedbackPart::weights_hash(std::uint64_t seed) {
  for (const Tensor& weights : weights_)
    seed = core::hash_bytes(core::HostView(device_.queue(), weights, core::Access::read).raw(), weights.bytes(), seed);
  return seed;
}

// W of a parameter to what the forward pass reads.
void FeedbackPart::cast(int parameter) {
  const Tensor& value = parameters_[at(parameter)]->value;
  if (value.dtype() == Dtype::float32) return;
  spectral::copy_scaled(device_.queue(), core::MatrixView(weights_[at(parameter)]), 1,
                        core::MatrixView(value.view({value.size()})));
}

// ---- gradients: this rank's own, summed over passes ----

void FeedbackPart::begin_pass(bool first, bool) {
  if (first) written_.assign(parameters_.size(), false);
  complete_.assign(parameters_.size(), false);
}

core::GradientSlot FeedbackPart::slot(core::Parameter& parameter) {
  const int p = index_.at(&parameter);
  parameter.gradient = gradients_[at(p)].view(parameter.shape);
  const bool add = written_[at(p)];
  written_[at(p)] = true;
  return {parameter.gradient, add};
}

void FeedbackPart::complete(core::Parameter& parameter) {
  const int p = index_.at(&parameter);
  MUONP_ASSERT(written_[at(p)] && !complete_[at(p)], "{} completed without a gradient, or twice", parameter.name);
  complete_[at(p)] = true;
}

void FeedbackPart::finish_passes() {
  for (std::size_t p = 0; p < parameters_.size(); ++p)
    MUONP_ASSERT(!complete_.empty() && complete_[p], "{}: no gradient in this step", parameters_[p]->name);
}

FeedbackPart::NormPiece FeedbackPart::norm_piece(int parameter) const {
  return {gradients_[at(parameter)], static_cast<double>(communicator_.size())};
}

// ---- a step ----

StepFacts FeedbackPart::facts(int parameter, const StepInputs& in, double gradient_scale) const {
  return config_of(parameter).facts(in.step, in.lr_factor, gradient_scale, 0, in.loss);
}

// Of a matrix its direction; of a slice the gradient.
dist::ErrorFeedback::Target FeedbackPart::target(int matrix, const StepInputs& inputs) {
  if (matrix < plan_.matrices()) {
    const Matrix& m = matrices_[at(matrix)];
    const StepFacts step = facts(m.parameter, inputs, inputs.clip);
    const auto direct = [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> states) {
      config_of(m.parameter).rule->direction(device_.queue(), step, {m.gradient.flat(begin, count)}, states);
    };
    compute_on_states(device_, {}, m.states, m.gradient.size(), inputs.step, direct);
    return {m.gradient, 1};
  }
  const int n = communicator_.size(), bucket = (matrix - plan_.matrices()) / n, rank = (matrix - plan_.matrices()) % n;
  const Interval slice = plan_.flat.slice(bucket, rank);
  return {buckets_[at(bucket)].gradient.flat(slice.begin, slice.count()), static_cast<float>(inputs.clip)};
}

void FeedbackPart::update(const StepInputs& inputs, core::Stopwatch& matrix_time) {
  std::vector<dist::ErrorFeedback::Target> targets;
  for (int i = 0; i < core::to_int(plan_.feedback.matrices.size()); ++i) targets.push_back(target(i, inputs));
  if (inputs.measure) measuring_.time([&] { measure_before(targets); });
  dist::ErrorFeedback::Round round(*feedback_, static_cast<std::uint64_t>(inputs.step), targets);
  dist::WavePipeline pipeline(round, communicator_, async_);
  for (dist::Wave wave; pipeline.next(wave);) {
    move(wave.mine, inputs, matrix_time);
    pipeline.give_back(wave);
    for (const int i : wave.arrived)
      if (i < plan_.matrices()) cast(matrices_[at(i)].parameter);
  }
  scale(inputs);
  for (int p = 0; p < core::to_int(parameters_.size()); ++p)
    if (!config_of(p).whole_matrices()) cast(p);
  if (inputs.measure) measuring_.time([&] { measure_after(targets); });
}

void FeedbackPart::move(std::span<const dist::OwnedMatrix> mine, const StepInputs& inputs, core::Stopwatch& matrix_time) {
  std::vector<OwnerSide::Matrix> matrices;
  for (const dist::OwnedMatrix& m : mine)
    if (m.task < plan_.matrices())
      matrices.push_back({m.task, m.in, Tensor::empty(device_, {m.in.size()}, Dtype::float32, Category::exchange),
                          facts(matrices_[at(m.task)].parameter, inputs, 1)});
  matrix_time.time([&] { owner_.compute(inputs.step, matrices); });
  if (inputs.measure) measuring_.time([&] { measure(matrices); });
  move_matrices(matrices, inputs);
  for (const dist::OwnedMatrix& m : mine)
    if (m.task >= plan_.matrices()) move_slice((m.task - plan_.matrices()) / communicator_.size(), inputs);
}

// X moves by the update of G, the mean of directions.
void FeedbackPart::move_matrices(std::span<const OwnerSide::Matrix> matrices, const StepInputs& inputs) {
  for (const OwnerSide::Matrix& m : matrices) {
    const StepFacts step = facts(matrices_[at(m.task)].parameter, inputs, 1);
    apply_update(device_.queue(), feedback_->master(m.task), {m.out}, step.lr, step.weight_decay);
    if (inputs.measure && wants(m.task)) measuring_.time([&] { squares_[at(m.task)].gap_before = squared_gap(m.task); });
  }
}

void FeedbackPart::move_slice(int bucket, const StepInputs& inputs) {
  const int slice = plan_.slice(bucket, communicator_.rank());
  for (const OwnedPiece& piece : buckets_[at(bucket)].mine) {
    const Tensor master = feedback_->master(slice).flat(piece.in_slice.begin, piece.in_slice.count());
    const Tensor mean = feedback_->mean(slice).flat(piece.in_slice.begin, piece.in_slice.count());
    const StepFacts step = facts(piece.parameter, inputs, 1);
    const auto move = [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> t) {
      config_of(piece.parameter).rule->move(device_.queue(), step, t[0], {mean.flat(begin, count)}, t.subspan(1));
    };
    compute_on_states(device_, {master}, piece.states, master.size(), inputs.step, move);
  }
}

void FeedbackPart::scale(const StepInputs& inputs) {
  const auto scales = [&](int p) -> const WeightScales& { return inputs.scales[at(plan_.parameters[at(p)])]; };
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) {
    if (scales(p).empty()) continue;
    scale_elements(device_, weights_[at(p)], {0, weights_[at(p)].size()}, scales(p));
    cast(p);
  }
  for (int i = 0; i < plan_.matrices(); ++i)
    if (feedback_->owns(i)) {
      const int p = matrices_[at(i)].parameter;
      scale_elements(device_, feedback_->master(i), {0, weights_[at(p)].size()}, scales(p));
    }
  for (int b = 0; b < core::to_int(buckets_.size()); ++b)
    for (const OwnedPiece& piece : buckets_[at(b)].mine) {
      const Tensor& slice = feedback_->master(plan_.slice(b, communicator_.rank()));
      scale_elements(device_, slice.flat(piece.in_slice.begin, piece.in_slice.count()), piece.in_parameter,
                     scales(piece.parameter));
    }
}

// ---- checkpoints ----

std::vector<StateTensor> FeedbackPart::state(bool for_saving) const {
  std::vector<StateTensor> tensors;
  for (int i = 0; i < plan_.matrices(); ++i) add_matrix_state(i, for_saving, tensors);
  for (int b = 0; b < core::to_int(buckets_.size()); ++b) add_bucket_state(b, for_saving, tensors);
  owner_.add_state(tensors);
  return tensors;
}

void FeedbackPart::add_matrix_state(int matrix, bool for_saving, std::vector<StateTensor>& to) const {
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
  add("weights", parameter.shape, for_saving ? Interval{part.begin, part.begin + part.count} : Interval{0, weights.size()},
      weights);
  for (const StoredState& s : matrices_[at(matrix)].states)
    if (s.size() > 0) to.push_back(state_tensor(s, parameter.shape));
  if (estimates_)
    estimates_->add_state(matrix, to);
  else
    whole(fmt::format("estimate#{}", rank), feedback_->estimate(matrix));
  state(fmt::format("basis#{}", rank), feedback_->state_to_owner(matrix));
  if (!feedback_->owns(matrix)) return;
  whole("master", feedback_->master(matrix));
  whole("mean_estimate", feedback_->mean(matrix));
  state("basis", feedback_->state_to_workers(matrix));
}

void FeedbackPart::add_bucket_state(int bucket, bool for_saving, std::vector<StateTensor>& to) const {
  const int rank = communicator_.rank();
  for (const int p : plan_.flat.buckets()[at(bucket)].parameters) {
    if (plan_.flat.in_bucket(p).empty()) continue;
    const core::Parameter& parameter = *parameters_[at(p)];
    const std::int64_t in_bucket = plan_.flat.in_bucket(p).begin;
    const auto add = [&](const std::string& what, Interval interval, const Tensor& data) {
      if (!interval.empty()) to.push_back({fmt::format("{}/{}", parameter.name, what), parameter.shape, interval, data});
    };
    const dist::Cut part = dist::cut(parameter.size(), communicator_.size(), rank);
    const Interval share = for_saving ? Interval{part.begin, part.begin + part.count} : Interval{0, parameter.size()};
    add("weights", share, weights_[at(p)].flat(share.begin, share.count()));
    if (estimates_) continue;
    // Estimates lie in slices.
    const Interval ranks = plan_.flat.ranks_of(p);
    for (int r = core::to_int(ranks.begin); r < ranks.end; ++r) {
      const Interval piece = plan_.flat.piece(p, r);
      const std::int64_t begin = in_bucket + piece.begin - plan_.flat.slice(bucket, r).begin;
      add(fmt::format("estimate#{}", rank), piece, feedback_->estimate(plan_.slice(bucket, r)).flat(begin, piece.count()));
    }
  }
  for (int r = 0; estimates_ && r < communicator_.size(); ++r) estimates_->add_state(plan_.slice(bucket, r), to);
  const int slice = plan_.slice(bucket, rank);
  for (const OwnedPiece& piece : buckets_[at(bucket)].mine) {
    const core::Parameter& parameter = *parameters_[at(piece.parameter)];
    const auto add = [&](std::string_view what, const Tensor& data) {
      to.push_back({fmt::format("{}/{}", parameter.name, what), parameter.shape, piece.in_parameter, data});
    };
    const auto part = [&](const Tensor& of_slice) { return of_slice.flat(piece.in_slice.begin, piece.in_slice.count()); };
    add("master", part(feedback_->master(slice)));
    add("mean_estimate", part(feedback_->mean(slice)));
    for (const StoredState& s : piece.states) to.push_back(state_tensor(s, parameter.shape));
  }
}

}  // namespace muonp::optim
