#include "launch/train/learner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "core/base/clock.h"
#include "core/base/processors.h"
#include "core/base/units.h"
#include "core/device/blas.h"
#include "core/device/host_view.h"
#include "core/files/files.h"
#include "dist/comm/agreement.h"
#include "launch/program/long_work.h"
#include "launch/program/signals.h"
#include "launch/train/plain_product.h"
#include "launch/train/run_identity.h"
#include "launch/train/run_reading.h"
#include "launch/train/starting_weights.h"

namespace muonp::launch {

using core::Dtype;
using core::Tensor;

namespace {

// Of a time, what is left without a part of it; a GPU's clock counts in half microseconds, so parts may seem longer.
double without(double whole, double part) { return std::max(whole - part, 0.0); }

models::TokenBatch make_batch(std::int64_t rows, std::int64_t time, bool packed) {
  const auto ids = [&] { return Tensor::on_host({rows, time}, Dtype::int32); };
  return {ids(), ids(), packed ? ids() : Tensor()};
}

std::span<std::int32_t> span_of(const Tensor& ids) { return ids ? ids.span<std::int32_t>() : std::span<std::int32_t>(); }

core::SequenceSpans spans_of(const models::TokenBatch& batch) {
  return {span_of(batch.inputs), span_of(batch.targets), span_of(batch.begins)};
}

// Its counted targets, in whole sequences of them: what a window of text is worth is 1 exactly.
double sequences_worth(const models::TokenBatch& batch) {
  return static_cast<double>(core::counted_targets(span_of(batch.targets))) / static_cast<double>(batch.targets.dim(1));
}

std::int64_t counted_in(const models::TokenBatch& batch) { return core::counted_targets(span_of(batch.targets)); }

}  // namespace

double StepOutcome::other_seconds() const {
  return without(total_seconds, forward_seconds + backward_seconds + report.communication_seconds + report.spectral_seconds);
}

BatchPlan make_batch_plan(const core::DataConfig& data, int world_size) {
  if (data.batch % world_size != 0)
    core::fail(
        "data.batch: {} sequences cannot be shared out evenly over {} ranks; a multiple of {} can, {} for "
        "example",
        data.batch, world_size, world_size, (data.batch / world_size + 1) * world_size);
  BatchPlan plan{data.batch, data.batch / world_size, data.micro_batch, 0};
  if (plan.micro_batch == 0) plan.micro_batch = plan.per_rank;
  if (plan.per_rank % plan.micro_batch != 0)
    core::fail("data.micro_batch: {} does not divide the {} sequences of a rank (data.batch {} over {} ranks)",
               plan.micro_batch, plan.per_rank, data.batch, world_size);
  plan.passes = plan.per_rank / plan.micro_batch;
  return plan;
}

namespace {

dist::Owners owners_of(std::string_view name) {
  return name == "groups" ? dist::Owners::groups : name == "auto" ? dist::Owners::automatic : dist::Owners::whole;
}

}  // namespace

optim::ParallelOptions parallel_options(const RunConfig& config, const models::LanguageModel& model,
                                        core::DeviceKind device) {
  constexpr double kFloatsPerMib = 1 << 18;
  const auto elements = [](double mib) { return std::max<std::int64_t>(1, std::llround(mib * kFloatsPerMib)); };
  return {.zero = static_cast<int>(config.parallel.zero),
          .bucket_elements = elements(config.parallel.bucket_mib),
          .wave_elements = config.parallel.wave_mib > 0 ? elements(config.parallel.wave_mib) : 0,
          .overlap = config.parallel.overlap,
          .weight_dtype = config.compute(),
          .device = device,
          .offload = config.parallel.offload == "optimizer",
          .prefetch = static_cast<int>(config.parallel.prefetch),
          .reads = model.weight_reads(),
          .compression = optim::parse_compression(config.compression.to_owner, config.compression.to_workers,
                                                  config.compression.others, config.compression.state_dtype),
          .spectra = config.log.spectra_every > 0 ? config.log.spectra : std::vector<std::string>{},
          .owners = owners_of(config.parallel.owners)};
}

SessionSettings session_settings(const RunConfig& config, const std::string& command) {
  SessionSettings settings;
  settings.device = config.device;
  settings.threads = config.parallel.threads;
  settings.timeout_seconds = config.parallel.timeout_seconds;
  settings.emulate_bfloat16 = config.parallel.emulate_bfloat16;
  settings.staged = config.parallel.transport == "mpi";
  settings.ranks = true;
  settings.alike = rank_identity(config);
  settings.alike.insert(settings.alike.begin(), {"the command", command});
  return settings;
}

namespace {

// That of the folder of weights or, where a run goes on when it is gone, the run's copy.
std::string default_tokenizer(const RunConfig& config) {
  const std::string& from = config.model.from;
  if (from.empty()) return "byte";
  const std::string kept = core::is_directory(from) ? "" : kept_tokenizer(config.directory());
  return kept.empty() ? from : kept;
}

}  // namespace

RunConfig resolve(RunConfig config) {
  config.optimizer = config.optimizer.for_run(config.run.steps);
  if (config.data.tokenizer.empty()) config.data.tokenizer = default_tokenizer(config);
  config.model.lora = with_adapters(config);
  config.model = config.model.from.empty() ? config.model.resolved() : with_folder(config);
  if (config.model.vocabulary() == 0) config.model.set_vocabulary(core::open_tokenizer(config.data.tokenizer)->vocabulary());
  if (config.data.sequence > config.model.context())
    core::fail("data.sequence: {} tokens are longer than model.context, {}", config.data.sequence, config.model.context());
  return config;
}

RunConfig resolve(const RunConfig& config, dist::Communicator& communicator) {
  RunConfig resolved;
  dist::run_on_all(communicator, [&] { resolved = resolve(config); });
  return resolved;
}

// What can be wrong before a rank has any data.
void Learner::prepare() {
  batches_ = make_batch_plan(config_.data, session_.world_size());
  if (config_.compute() == Dtype::bfloat16)
    if (const std::string why = core::product_refusal(session_.device().queue(), Dtype::bfloat16); !why.empty())
      core::fail(
          "parallel.compute: bfloat16: {}; float32 works everywhere, and parallel.emulate_bfloat16: true gives "
          "the same numbers slowly",
          why);
  model_ = models::make_model(config_.model, session_.device().kind());
}

Learner::Learner(const RunConfig& config, Session& session, core::Preparation preparation)
    : config_(config), session_(session) {
  dist::Communicator& communicator = session_.communicator();
  core::TokenFiles token_files;
  dist::run_on_all(communicator, [&] { prepare(); });
  if (!preparation.say) preparation.say = [this](const std::string& line) { session_.log().info("{}", line); };
  preparation.threads = core::processors().usable();  // the other ranks wait
  run_on_all_until_stopped(communicator, [&](const core::Poll& poll) {
    preparation.poll = poll;
    if (session_.rank() == 0)
      token_files = core::prepare_dataset(config_.data, config_.directory(), config_.model.vocabulary(), preparation);
  });
  token_files = core::TokenFiles::decode(communicator.all_gather_bytes(token_files.encode()).front());
  dist::run_on_all(communicator, [&] { open_data(token_files); });
  open_starting_weights();
  dist::require_same(communicator, data_identity_);
  optimizer_ = std::make_unique<optim::DistributedOptimizer>(session_.device(), model_->parameters(), config_.optimizer,
                                                             parallel_options(config_, *model_, session_.device().kind()),
                                                             communicator);
}

void Learner::open_data(const core::TokenFiles& token_files) {
  dataset_ = core::open_dataset(config_.data, token_files);
  train_ = std::make_unique<core::TrainBatches>(
      core::make_train_batches(dataset_, config_.data, static_cast<std::uint64_t>(config_.run.seed)));
  validation_ = core::make_validation_batches(dataset_, config_.data);
  data_identity_ = launch::data_identity(config_.data, dataset_);
}

// A folder that is gone, from one host perhaps, is one that a run with checkpoints does not need any more
// (launch/train/starting_weights.h), unless its weights are frozen.
void Learner::open_starting_weights() {
  const models::ModelConfig& model = config_.model;
  const bool there = model.from.empty() || core::is_directory(model.from);
  if (!model.lora.on() && !dist::all_agree(session_.communicator(), there)) return;
  dist::run_on_all(session_.communicator(), [&] {
    if (!there)
      core::fail(
          "model.from: {}: no such folder; with model.lora its weights are frozen, and a run that goes on reads them again: "
          "its checkpoints hold the adapters alone",
          model.from);
    initial_ = std::make_unique<InitialWeights>(model, model_->parameters(), config_.run.seed);
    if (initial_->folder() != nullptr) data_identity_.push_back({kStartingWeights, initial_->folder()->identity()});
  });
}

core::WeightFiller Learner::filler() const {
  MUONP_ASSERT(initial_, "{} was there when the configuration was resolved", config_.model.from);
  return std::bind_front(&InitialWeights::read, initial_.get());
}

std::function<void(const core::Parameter&)> Learner::watch(
    const core::ParameterList& parameters, const std::function<void(std::int64_t, std::int64_t)>& read) const {
  std::int64_t total = 0;
  for (const core::Parameter* p : parameters) total += p->size();
  return [this, read, total, done = std::int64_t{0}](const core::Parameter& parameter) mutable {
    if (!dist::all_agree(session_.communicator(), !stop_requested())) throw Interrupted();
    if (read) read(done += parameter.size(), total);
  };
}

void Learner::initialize(const std::function<void(std::int64_t, std::int64_t)>& read) {
  const core::WeightFiller fill = filler();
  if (initial_->random()) return optimizer_->initialize(static_cast<std::uint64_t>(config_.run.seed));
  optimizer_->initialize(fill, watch(model_->parameters(), read));
}

void Learner::fill_frozen(const std::function<void(std::int64_t, std::int64_t)>& read) {
  const core::ParameterList frozen = core::frozen_of(model_->parameters());
  if (!frozen.empty()) optimizer_->fill_frozen(filler(), watch(frozen, read));
}

// What cannot be read any more, on this rank only perhaps, is zeros, ids that every model has; all ranks hear of it at the
// end of the step or validation.
models::TokenBatch Learner::read_batch(std::int64_t rows, bool packed,
                                       const std::function<void(const core::SequenceSpans&)>& read) {
  models::TokenBatch batch = make_batch(rows, config_.data.sequence, packed);
  try {
    read(spans_of(batch));
  } catch (const core::Error&) {
    fail_next(std::current_exception());
    for (const Tensor& ids : {batch.inputs, batch.targets, batch.begins}) std::ranges::fill(span_of(ids), 0);
  }
  return batch;
}

void Learner::fail_next(std::exception_ptr why) {
  if (!failure_) failure_ = std::move(why);
}

void Learner::require_no_failure() { dist::rethrow_on_all(session_.communicator(), failure_); }

struct Learner::Pass {
  Tensor loss;
  double alike = 1;  // passes with as many counted targets as this one that the whole step is worth
  std::unique_ptr<core::TimePoint> start, middle, end;
  core::Laps forward_waits, backward_waits;  // for communication
};

Learner::Pass Learner::run_pass(std::int64_t step, std::int64_t pass, std::int64_t counted) {
  core::Device& device = session_.device();
  Pass result;
  const std::int64_t first = session_.rank() * batches_.per_rank + pass * batches_.micro_batch;
  core::Phase forward("forward");
  result.start = device.queue().now();
  const models::TokenBatch batch = read_batch(batches_.micro_batch, train_->packed(), [&](const core::SequenceSpans& to) {
    train_->fill_batch(step, first, batches_.micro_batch, to);
  });
  // Of one rank, whose sums are divided by the number of ranks: over all passes 1/alike adds up to 1 on the ranks' mean.
  result.alike = static_cast<double>(counted) / static_cast<double>(counted_in(batch) * session_.world_size());
  if (observe_) observe_(batch);
  optimizer_->begin_pass(pass == 0, pass == batches_.passes - 1);

  core::Tape tape(device, true, &optimizer_->weights());
  const core::Variable loss =
      model_->loss(tape, batch, {static_cast<std::uint64_t>(config_.run.seed), static_cast<std::uint64_t>(step), first});
  result.loss = loss->value;
  result.middle = device.queue().now();
  forward.end();
  const core::Phase backward("backward");
  result.forward_waits = optimizer_->take_waits();
  tape.backward(loss, 1.0f / static_cast<float>(result.alike), model_->parameters(), optimizer_->gradients());
  result.end = device.queue().now();
  result.backward_waits = optimizer_->take_waits();
  return result;
}

StepOutcome Learner::step(std::int64_t step, bool stop_requested, const std::function<bool(double)>& refuse) {
  StepOutcome outcome;
  outcome.counted = train_->counted(step);
  const double start = core::seconds_now();
  core::Stopwatch judging(session_.device().queue(), "communication");
  std::vector<Pass> old_passes, passes;  // those at the weights of the step before, where a rule wants them
  if (optimizer_->needs_old_gradients()) {
    optimizer_->hold_old_weights();
    for (std::int64_t pass = 0; pass < batches_.passes; ++pass) old_passes.push_back(run_pass(step, pass, outcome.counted));
    optimizer_->keep_old_gradients();
  }
  models::QkClip* clip = model_->qk_clip();
  if (clip != nullptr) clip->forget();
  for (std::int64_t pass = 0; pass < batches_.passes; ++pass) passes.push_back(run_pass(step, pass, outcome.counted));
  core::Phase judgement("gradient norm and loss");
  const optim::GradientNorm norm = optimizer_->prepare();

  // Loss, wish to stop and failures, summed over ranks.
  double values[3] = {0, stop_requested ? 1.0 : 0.0, failure_ ? 1.0 : 0.0};
  for (const Pass& pass : passes) values[0] += core::read_scalar(session_.device().queue(), pass.loss) / pass.alike;
  judging.time([&] { session_.communicator().all_reduce(std::span<double>(values), dist::Reduce::sum); });
  outcome.loss = core::plain_nan(values[0] / session_.world_size());
  outcome.stop = values[1] > 0;
  judgement.end();
  const bool failed = values[2] > 0, refused = failed || (refuse && refuse(outcome.loss));

  const double lr_factor = optim::lr_factor(config_.schedule, step, config_.run.steps);
  optim::StepOptions how{.wait = false, .loss = outcome.loss, .measure = config_.log.measures_spectra(step + 1)};
  if (clip != nullptr) {
    LogitClipping clipping = clip_logits(session_, *clip, judging);
    outcome.logits = clipping.record;
    how.scales = std::move(clipping.scales);
  }
  core::Phase update("update");
  outcome.report = norm.finite && !refused ? optimizer_->apply(lr_factor, how) : optimizer_->skip();
  update.end();
  outcome.report.communication_seconds += core::seconds(judging.take());
  if (outcome.logits && outcome.report.skipped) outcome.logits->clipped = 0;
  if (failed) require_no_failure();
  outcome.report.gradient_norm = core::plain_nan(outcome.report.gradient_norm);
  std::ranges::move(old_passes, std::back_inserter(passes));
  for (const Pass& pass : passes) {
    const double forward = core::seconds(pass.forward_waits), backward = core::seconds(pass.backward_waits);
    outcome.forward_seconds += without(pass.middle->seconds_since(*pass.start), forward);
    outcome.backward_seconds += without(pass.end->seconds_since(*pass.middle), backward);
    outcome.report.communication_seconds += forward + backward;
  }
  outcome.total_seconds = core::seconds_now() - start;
  return outcome;
}

double Learner::evaluate(const models::TokenBatch& batch) {
  optimizer_->begin_evaluation();
  core::Tape tape(session_.device(), false, &optimizer_->weights());
  return core::read_scalar(session_.device().queue(), model_->loss(tape, batch, {})->value);
}

Learner::Validation Learner::validate(std::int64_t batches,
                                      const std::function<void(std::int64_t, std::int64_t)>& going_on) {
  if (!validation_) return {};
  std::int64_t sequences = validation_->sequences();
  if (batches > 0) sequences = std::min(sequences, batches * batches_.batch);
  const std::int64_t chunk = batches_.micro_batch, chunks = (sequences + chunk - 1) / chunk;
  // All ranks gather weights for a pass at stage 3, so one that has no chunk left goes through the last one uncounted.
  const std::int64_t rounds = (chunks + session_.world_size() - 1) / session_.world_size();
  double sum = 0, counted = 0;
  optimizer_->wait_for_weights();  // the ranks talk of other things between passes
  for (std::int64_t round = 0; round < rounds; ++round) {
    if (!dist::all_agree(session_.communicator(), !stop_requested())) throw Interrupted();
    const std::int64_t c = round * session_.world_size() + session_.rank();
    if (going_on) going_on((c - session_.rank()) * chunk, sequences);
    if (c >= chunks && !optimizer_->plan().zero.gathers_each_pass) continue;
    const std::int64_t first = std::min(c, chunks - 1) * chunk, count = std::min(chunk, sequences - first);
    const models::TokenBatch batch = read_batch(
        count, validation_->packed(), [&](const core::SequenceSpans& to) { validation_->fill_batch(first, count, to); });
    const double loss = evaluate(batch), weight = sequences_worth(batch);
    if (c >= chunks) continue;
    sum += weight * loss;
    counted += static_cast<double>(counted_in(batch));
  }
  optimizer_->wait_for_weights();
  double values[3] = {sum, counted, failure_ ? 1.0 : 0.0};
  session_.communicator().all_reduce(std::span<double>(values), dist::Reduce::sum);
  if (values[2] > 0) require_no_failure();
  const double length = static_cast<double>(config_.data.sequence);
  return {core::plain_nan(values[0] / (values[1] / length)), static_cast<std::int64_t>(values[1])};
}

double measure_peak_together(Session& session, core::Dtype dtype) {
  session.communicator().barrier();
  return measure_peak(session.device(), dtype);
}

double measure_peak(core::Device& device, core::Dtype dtype) {
  constexpr std::int64_t kLargest = 8192;
  constexpr int kMostProducts = 8, kSettled = 3;  // until as many in a row are no faster than the best
  constexpr double kNoise = 0.02;
  constexpr double kLongEnough = 1e-3;  // seconds, for a fast device to show its rate
  core::Queue& queue = device.queue();
  for (std::int64_t n = 1024;; n *= 2) {
    const PlainProduct product(device, n, n, dtype);
    double best = INFINITY;
    for (int i = 0, since_best = 0; i < kMostProducts && since_best < kSettled; ++i) {
      const auto start = queue.now();
      product.run();
      const double seconds = queue.now()->seconds_since(*start);
      since_best = seconds < best * (1 - kNoise) ? 0 : since_best + 1;
      best = std::min(best, seconds);
    }
    if (best >= kLongEnough || n == kLargest) return product.flops() / best;
  }
}

}  // namespace muonp::launch
