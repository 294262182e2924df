#include "optim/engine/sharded_part.h"

#include <algorithm>

#include "core/base/index.h"
#include "core/base/math.h"
#include "core/device/blas.h"
#include "core/device/host_view.h"
#include "core/device/offload.h"

namespace muonp::optim {

using core::at;
using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

void copy_on_host(core::Queue& queue, const Tensor& from, const Tensor& to) {
  const core::HostView source(queue, from, core::Access::read), target(queue, to, core::Access::write);
  std::ranges::copy(source.span<float>(), target.data<float>());
  target.upload();
}

// The state of a rule that begins as the weights; -1: none does.
int state_of_weights(const Rule& rule) { return rule.evaluates_average() ? 0 : rule.needs().old_gradient ? 1 : -1; }

}  // namespace

ShardedPart::ShardedPart(core::Device& device, core::ParameterList parameters, const ExecutionPlan& plan,
                         dist::Communicator& communicator, dist::AsyncQueue& async, core::Stopwatch& measuring,
                         core::Stopwatch& sharing)
    : device_(device),
      plan_(plan),
      communicator_(communicator),
      async_(async),
      measuring_(measuring),
      parameters_(device, std::move(parameters), plan.shards, communicator.rank(), plan.zero, plan.options.weight_dtype,
                  plan.options.offload ? dist::Masters::in_host_memory : dist::Masters::on_device),
      reducer_(device, parameters_, communicator, async, plan.options.overlap),
      owner_(device, plan.owners, plan.sharded_groups, plan.shards.parameters(), communicator.rank(), plan.options.offload),
      shared_(device, plan.owners, plan.sharded_groups, plan.shards.parameters(), communicator, async, sharing),
      diagnostics_(device, plan.sharded_groups, plan.shards.parameters(), plan.sharded, plan.options.spectra) {
  if (plan.gathers)
    weights_ = std::make_unique<dist::PassGatherer>(parameters_, *plan.gathers, communicator, async);
  else
    weights_ = std::make_unique<dist::StepGatherer>(parameters_, communicator, async);
  for (int p = 0; p < core::to_int(plan.sharded.size()); ++p) {
    mine_.push_back({parameters_.master(p), stored_states(device, config_of(p), plan.shards.parameters()[at(p)].name,
                                                          parameters_.kept(p), "", plan.options.offload)});
  }
}

// Each rank sums its own slice, at stage 0 too, so that the norm does not depend on the stage.
ShardedPart::NormPiece ShardedPart::norm_piece(int parameter) const {
  const dist::Interval mine = plan_.shards.piece(parameter, communicator_.rank());
  if (mine.empty()) return {};
  const std::int64_t begin = mine.begin - parameters_.kept(parameter).begin;
  return {reducer_.reduced(parameter).flat(begin, mine.count())};
}

StepFacts ShardedPart::facts(int parameter, const StepInputs& in) const {
  return config_of(parameter).facts(in.step, in.lr_factor, in.clip / communicator_.size(),
                                    in.norms[at(plan_.sharded[at(parameter)])], in.loss);
}

void ShardedPart::update(const StepInputs& inputs, core::Stopwatch& matrix_time) {
  pending_.clear();
  for (const dist::Bucket& bucket : plan_.shards.buckets()) pending_.push_back(core::to_int(bucket.parameters.size()));
  compute_grams();
  for (int p = 0; p < core::to_int(mine_.size()); ++p)
    if (!config_of(p).whole_matrices() || plan_.shards.in_bucket(p).empty()) move(p, inputs);

  std::vector<Tensor> pieces;  // by task: the direction, and what comes back of its update
  for (const dist::MatrixTask& task : plan_.owners.tasks()) pieces.push_back(direction(task.parameter, inputs).values);
  dist::ExactTransport transport(device_, parameters_, plan_.owners, pieces);
  dist::WavePipeline pipeline(transport, communicator_, async_);
  for (dist::Wave wave; pipeline.next(wave);) {
    if (wave.index < plan_.owners.waves()) matrix_time.time([&] { compute(wave, inputs); });
    if (inputs.measure && wave.index < plan_.owners.waves()) measuring_.time([&] { measure(wave); });
    pipeline.give_back(wave);
    for (const int task : wave.arrived) apply(parameter_of(task), Update{pieces[at(task)]}, inputs);
  }
  pairs_.clear();
}

Tensor ShardedPart::whole_masters(int bucket) {
  const dist::Bucket& layout = plan_.shards.buckets()[at(bucket)];
  const dist::Interval kept = parameters_.kept_of_bucket(bucket);
  const Tensor whole = Tensor::empty(device_, {layout.size}, Dtype::float32, Category::exchange);
  whole.flat(kept.begin, kept.count()).copy_from(device_.queue(), parameters_.master_of_bucket(bucket));
  if (plan_.zero.keeps_slice) async_.wait(async_.submit([&] { communicator_.all_gather(dist::Span(whole)); }));
  return whole;
}

void ShardedPart::compute_grams() {
  std::map<int, int> wanted;  // by the other factor, whose Gram matrix it is: the parameter that this rank owns
  for (int t = 0; t < core::to_int(plan_.owners.tasks().size()); ++t)
    if (const int p = parameter_of(t), partner = plan_.partners[at(p)];
        partner >= 0 && plan_.owners.owner(t) == communicator_.rank())
      wanted[partner] = p;
  for (int b = 0; b < core::to_int(plan_.shards.buckets().size()); ++b) {
    if (!plan_.has_partner(b)) continue;
    const Tensor whole = whole_masters(b);
    for (const int other : plan_.shards.buckets()[at(b)].parameters) {
      const auto found = wanted.find(other);
      if (found == wanted.end()) continue;
      const core::Parameter& factor = *parameters_.parameters()[at(other)];
      const dist::Interval where = plan_.shards.in_bucket(other);
      const bool is_a = factor.kind == core::ParameterKind::lora_a;  // and the one that moves is B
      const core::MatrixView view(whole.flat(where.begin, where.count()).view(factor.shape));
      const std::int64_t rank = factor.shape[is_a ? 0 : 1];
      LoraPair pair{Tensor::empty(device_, {rank, rank}, Dtype::float32, Category::exchange), is_a,
                    factor.shape[is_a ? 1 : 0], factor.product_scale};
      core::gemm_on_one_thread(device_.queue(), is_a ? core::Op::none : core::Op::transpose,
                               is_a ? core::Op::transpose : core::Op::none, 1, view, view, 0, core::MatrixView(pair.gram));
      pairs_.emplace(found->second, std::move(pair));
    }
  }
}

void ShardedPart::move(int parameter, const StepInputs& inputs) {
  const Shard& shard = mine_[at(parameter)];
  if (shard.master.size() > 0) {
    const StepFacts step = facts(parameter, inputs);
    const GradientSum gradient = gradient_sum(parameter);
    const auto move = [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> t) {
      config_of(parameter).rule->move(device_.queue(), step, t[0], {gradient.values.flat(begin, count)}, t.subspan(1));
    };
    compute_on_states(device_, {shard.master}, shard.states, shard.master.size(), inputs.step, move);
  }
  scale(parameter, inputs);
  publish_when_complete(parameter);
}

Direction ShardedPart::direction(int parameter, const StepInputs& inputs) {
  const Shard& shard = mine_[at(parameter)];
  const GradientSum gradient = gradient_sum(parameter);
  const std::int64_t size = shard.master.size();
  if (size > 0) {
    const StepFacts step = facts(parameter, inputs);
    const auto direct = [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> states) {
      config_of(parameter).rule->direction(device_.queue(), step, {gradient.values.flat(begin, count)}, states);
    };
    compute_on_states(device_, {}, shard.states, size, inputs.step, direct);
  }
  return {gradient.values};
}

void ShardedPart::compute(const dist::Wave& wave, const StepInputs& inputs) {
  std::vector<OwnerSide::Matrix> matrices;
  std::vector<SharedSide::Part> parts;
  for (const dist::OwnedMatrix& m : wave.mine) {
    const int p = parameter_of(m.task);
    if (plan_.owners.is_shared(m.task)) {
      parts.push_back({m.task, m.in, m.out, facts(p, inputs)});
      continue;
    }
    if (observe_) observe_(plan_.shards.parameters()[at(p)].name, m.in);
    const auto pair = pairs_.find(p);
    matrices.push_back(
        {m.task, m.in, m.out, facts(p, inputs), pair == pairs_.end() ? std::nullopt : std::optional(pair->second)});
  }
  owner_.compute(inputs.step, matrices);
  shared_.compute(inputs.step, wave.index, parts);
}

// On the device, this rank's part of each matrix of a wave; by task.
std::vector<Tensor> ShardedPart::masters_of(int wave) {
  std::vector<Tensor> pieces(plan_.owners.tasks().size());
  for (const int task : plan_.owners.wave(wave)) {
    Tensor& piece = pieces[at(task)];
    piece = mine_[at(parameter_of(task))].master;
    if (!piece.in_host_memory()) continue;
    const Tensor host = piece;
    piece = Tensor::empty(device_, host.shape(), Dtype::float32, Category::exchange);
    device_.queue().write(piece.raw(), host.raw(), host.bytes());
  }
  return pieces;
}

void ShardedPart::measure(const dist::Wave& wave) {
  const auto wanted = [&](int task) { return diagnostics_.wants(parameter_of(task)); };
  if (std::ranges::none_of(plan_.owners.wave(wave.index), wanted)) return;
  dist::ExactTransport transport(device_, parameters_, plan_.owners, masters_of(wave.index));
  if (const auto messages = transport.gather(wave.index))
    async_.wait(async_.submit([&] { communicator_.exchange(messages->sends, messages->receives); }));
  const std::vector<dist::OwnedMatrix> weights = transport.received(wave.index);
  std::vector<Diagnostics::Input> inputs;
  for (std::size_t i = 0; i < weights.size(); ++i)  // both in the order of the wave
    inputs.push_back({parameter_of(weights[i].task), wave.mine[i].in, wave.mine[i].out, weights[i].in});
  diagnostics_.measure(inputs);
}

void ShardedPart::apply(int parameter, const Update& update, const StepInputs& inputs) {
  const Shard& shard = mine_[at(parameter)];
  const bool factor = parameters_.parameters()[at(parameter)]->partner != nullptr;
  const StepFacts step = config_of(parameter).rule->applied(facts(parameter, inputs), factor);
  if (shard.master.size() > 0 && config_of(parameter).rule->needs().old_gradient)
    copy_on_host(device_.queue(), shard.master, shard.states[1].values());
  if (shard.master.size() > 0)
    core::compute_in_pieces(device_, {shard.master}, core::Pieces::changed,
                            [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> master) {
                              apply_update(device_.queue(), master[0], {update.values.flat(begin, count)}, step.lr,
                                           step.weight_decay);
                            });
  scale(parameter, inputs);
  publish_when_complete(parameter);
}

// An average moves with the weights that it is of; what a rule keeps of the past, gradients and old weights, does not.
void ShardedPart::scale(int parameter, const StepInputs& inputs) {
  const WeightScales& scales = inputs.scales[at(plan_.sharded[at(parameter)])];
  const Shard& shard = mine_[at(parameter)];
  scale_elements(device_, shard.master, parameters_.kept(parameter), scales);
  if (config_of(parameter).rule->evaluates_average())
    scale_elements(device_, shard.states[0].values(), parameters_.kept(parameter), scales);
}

// Every rank updates its parameters in the same order, so the all-gathers of weights match.
void ShardedPart::publish_when_complete(int parameter) {
  const int bucket = plan_.shards.bucket_of(parameter);
  if (--pending_[at(bucket)] > 0) return;
  parameters_.cast_to_weights(bucket);
  weights_->updated(bucket);
}

void ShardedPart::initialized() {
  for (int p = 0; p < core::to_int(mine_.size()); ++p)
    if (const int s = state_of_weights(*config_of(p).rule); s >= 0 && mine_[at(p)].master.size() > 0)
      copy_on_host(device_.queue(), mine_[at(p)].master, mine_[at(p)].states[at(s)].values());
  loaded();
}

void ShardedPart::hold_states(int state) {
  for (int p = 0; p < core::to_int(mine_.size()); ++p) {
    if (state_of_weights(*config_of(p).rule) != state || mine_[at(p)].master.size() == 0) continue;
    const Tensor& master = mine_[at(p)].master;
    {
      const core::HostView values(device_.queue(), master, core::Access::read);
      trained_[p].assign(values.span<float>().begin(), values.span<float>().end());
    }
    copy_on_host(device_.queue(), mine_[at(p)].states[at(state)].values(), master);
  }
  parameters_.publish(communicator_);
}

void ShardedPart::hold_averages() { hold_states(0); }
void ShardedPart::hold_old_weights() { hold_states(1); }

void ShardedPart::keep_old_gradients() {
  for (int p = 0; p < core::to_int(mine_.size()); ++p)
    if (config_of(p).rule->needs().old_gradient && mine_[at(p)].master.size() > 0)
      copy_on_host(device_.queue(), gradient_sum(p).values, mine_[at(p)].states[0].values());
}

void ShardedPart::release_weights() {
  for (const auto& [p, values] : trained_) {
    const core::HostView master(device_.queue(), mine_[at(p)].master, core::Access::write);
    std::ranges::copy(values, master.data<float>());
    master.upload();
  }
  trained_.clear();
  parameters_.publish(communicator_);
}

std::vector<StateTensor> ShardedPart::state(bool for_saving) const {
  MUONP_ASSERT(trained_.empty(), "a state is asked for while other weights are held");
  std::vector<StateTensor> tensors;
  for (int p = 0; p < core::to_int(mine_.size()); ++p) {
    const dist::ParameterSpec& spec = plan_.shards.parameters()[at(p)];
    // At stage 0 every rank keeps the whole, and saves its slice.
    const dist::Interval mine = for_saving ? plan_.shards.piece(p, communicator_.rank()) : parameters_.kept(p);
    if (mine.empty()) continue;
    const std::int64_t begin = mine.begin - parameters_.kept(p).begin;
    tensors.push_back(
        {fmt::format("{}/master", spec.name), spec.shape, mine, mine_[at(p)].master.flat(begin, mine.count())});
    for (const StoredState& state : mine_[at(p)].states)
      tensors.push_back(state_tensor(state.part(begin, mine.count()), spec.shape));
  }
  owner_.add_state(tensors);
  return tensors;
}

}  // namespace muonp::optim
