#include "launch/learner.h"

#include <chrono>
#include <cmath>

#include "core/blas.h"
#include "core/host_view.h"
#include "dist/agreement.h"
#include "launch/patience.h"
#include "launch/units.h"

namespace muonp::launch {

using core::Category;
using core::Dtype;
using core::Tensor;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

models::TokenBatch make_batch(std::int64_t rows, std::int64_t time) {
  return {Tensor::on_host({rows, time}, Dtype::int32), Tensor::on_host({rows, time}, Dtype::int32)};
}

}  // namespace

BatchPlan make_batch_plan(const core::DataConfig& data, int world_size) {
  if (data.batch % world_size != 0)
    core::fail(
        "data.batch: {} sequences cannot be shared out evenly over {} ranks; a multiple of {} can, {} for "
        "example",
        data.batch, world_size, world_size, (data.batch / world_size + 1) * world_size);
  BatchPlan plan{data.batch, data.batch / world_size, data.micro_batch, 0};
  if (plan.micro_batch == 0) plan.micro_batch = plan.per_rank;
  if (plan.per_rank % plan.micro_batch != 0)
    core::fail(
        "data.micro_batch: {} does not divide the {} sequences of a rank (data.batch {} over {} ranks)",
        plan.micro_batch, plan.per_rank, data.batch, world_size);
  plan.passes = plan.per_rank / plan.micro_batch;
  return plan;
}

optim::ParallelOptions parallel_options(const RunConfig& config, const models::LanguageModel& model,
                                        core::DeviceKind device) {
  constexpr double kFloatsPerMib = 1 << 18;
  const auto elements = [](double mib) {
    return std::max<std::int64_t>(1, std::llround(mib * kFloatsPerMib));
  };
  return {.zero = static_cast<int>(config.parallel.zero),
          .bucket_elements = elements(config.parallel.bucket_mib),
          .wave_elements = elements(config.parallel.wave_mib),
          .overlap = config.parallel.overlap,
          .weight_dtype = config.compute(),
          .device = device,
          .offload = config.parallel.offload == "optimizer",
          .prefetch = static_cast<int>(config.parallel.prefetch),
          .reads = model.weight_reads(),
          .compression = optim::parse_compression(config.compression.to_owner, config.compression.to_workers,
                                                  config.compression.others)};
}

SessionSettings session_settings(const RunConfig& config, bool ranks) {
  SessionSettings settings;
  settings.device = config.device;
  settings.threads = static_cast<int>(config.parallel.threads);
  settings.timeout_seconds = config.parallel.timeout_seconds;
  settings.emulate_bfloat16 = config.parallel.emulate_bfloat16;
  settings.ranks = ranks;
  return settings;
}

RunConfig resolve(RunConfig config) {
  config.model = config.model.resolved();
  if (config.model.vocabulary == 0)
    config.model.vocabulary = core::open_tokenizer(config.data.tokenizer)->vocabulary();
  if (config.data.sequence > config.model.context)
    core::fail("data.sequence: {} tokens are longer than model.context, {}", config.data.sequence,
               config.model.context);
  return config;
}

Learner::Learner(const RunConfig& config, Session& session)
    : config_(config), session_(session), batches_(make_batch_plan(config.data, session.world_size())) {
  if (config_.compute() == Dtype::bfloat16)
    if (const std::string why = core::product_refusal(session_.device().queue(), Dtype::bfloat16); !why.empty())
      core::fail("parallel.compute: bfloat16: {}; float32 works everywhere, and parallel.emulate_bfloat16: true gives "
                 "the same numbers slowly", why);
  model_ = models::make_gpt(config_.model);
  dist::Communicator& communicator = session_.communicator();
  run_on_all_until_stopped(communicator, [&](const core::Poll& poll) {
    if (session_.rank() == 0)
      core::prepare_dataset(config_.data, config_.directory(), config_.model.vocabulary,
                            [&](const std::string& line) { session_.log().info("{}", line); }, poll);
  });
  run_on_all_until_stopped(communicator, [&](const core::Poll& poll) {
    dataset_ = core::open_dataset(config_.data, config_.directory(), poll);
    train_ = std::make_unique<core::TrainBatches>(dataset_.train, config_.data.sequence, config_.data.batch,
                                                  static_cast<std::uint64_t>(config_.run.seed),
                                                  config_.data.shuffle);
    if (dataset_.validation.size() > 0)
      validation_ = std::make_unique<core::ValidationBatches>(dataset_.validation, config_.data.sequence);
  });
  optimizer_ = std::make_unique<optim::DistributedOptimizer>(
      session_.device(), model_->parameters(), config_.optimizer,
      parallel_options(config_, *model_, session_.device().kind()), communicator);
}

struct Learner::Pass {
  Tensor loss;
  std::unique_ptr<core::TimePoint> start, middle, end;
};

Learner::Pass Learner::run_pass(std::int64_t step, std::int64_t pass) {
  core::Device& device = session_.device();
  Pass result;
  const std::int64_t first = session_.rank() * batches_.per_rank + pass * batches_.micro_batch;
  result.start = device.queue().now();
  const models::TokenBatch batch = make_batch(batches_.micro_batch, config_.data.sequence);
  train_->fill_batch(step, first, batches_.micro_batch, batch.inputs, batch.targets);
  if (observe_) observe_(batch);
  optimizer_->begin_pass(pass == 0, pass == batches_.passes - 1);

  core::Tape tape(device, true, &optimizer_->weights());
  const core::Variable loss = model_->loss(
      tape, batch, {static_cast<std::uint64_t>(config_.run.seed), static_cast<std::uint64_t>(step), first});
  result.loss = loss->value;
  result.middle = device.queue().now();
  tape.backward(loss, 1.0f / static_cast<float>(batches_.passes), model_->parameters(),
                optimizer_->gradients());
  result.end = device.queue().now();
  return result;
}

StepOutcome Learner::step(std::int64_t step, bool stop_requested, const std::function<bool(double)>& refuse) {
  StepOutcome outcome;
  const double start = now();
  std::vector<Pass> passes;
  for (std::int64_t pass = 0; pass < batches_.passes; ++pass) passes.push_back(run_pass(step, pass));
  const auto judge = [&] {
    double values[2] = {0, stop_requested ? 1.0 : 0.0};  // loss and wish to stop, summed over ranks
    for (const Pass& pass : passes)
      values[0] += core::read_scalar(session_.device().queue(), pass.loss) / static_cast<double>(batches_.passes);
    session_.communicator().all_reduce(std::span<double>(values), dist::Reduce::sum);
    outcome.loss = plain_nan(values[0] / session_.world_size());
    outcome.stop = values[1] > 0;
    return refuse && refuse(outcome.loss);
  };
  outcome.report = optimizer_->step(optim::lr_factor(config_.schedule, step, config_.run.steps), /*wait=*/false, judge);
  outcome.report.gradient_norm = plain_nan(outcome.report.gradient_norm);
  for (const Pass& pass : passes) {
    outcome.forward_seconds += pass.middle->seconds_since(*pass.start);
    outcome.backward_seconds += pass.end->seconds_since(*pass.middle);
  }
  outcome.total_seconds = now() - start;
  return outcome;
}

double Learner::validate(std::int64_t batches) {
  if (!validation_) return NAN;
  std::int64_t windows = validation_->windows();
  if (batches > 0) windows = std::min(windows, batches * batches_.batch);
  const std::int64_t chunk = batches_.micro_batch, chunks = (windows + chunk - 1) / chunk;
  // All ranks gather weights for a pass at stage 3, so one that has no chunk left goes through the last one uncounted.
  const std::int64_t rounds = (chunks + session_.world_size() - 1) / session_.world_size();
  double sum = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    const std::int64_t c = round * session_.world_size() + session_.rank();
    if (c >= chunks && config_.parallel.zero < 3) break;
    const std::int64_t first = std::min(c, chunks - 1) * chunk, count = std::min(chunk, windows - first);
    const models::TokenBatch batch = make_batch(count, config_.data.sequence);
    validation_->fill_batch(first, count, batch.inputs, batch.targets);
    optimizer_->begin_evaluation();
    core::Tape tape(session_.device(), false, &optimizer_->weights());
    const double loss = core::read_scalar(session_.device().queue(), model_->loss(tape, batch, {})->value);
    if (c < chunks) sum += static_cast<double>(count) * loss;
  }
  optimizer_->wait_for_weights();
  session_.communicator().all_reduce(std::span<double>(&sum, 1), dist::Reduce::sum);
  return plain_nan(sum / static_cast<double>(windows));
}

double measure_peak(Session& session, core::Dtype dtype) {
  constexpr std::int64_t kLargest = 8192;
  constexpr int kProducts = 8;
  constexpr double kLongEnough = 1e-3;  // seconds, for a fast device to show its rate
  core::Queue& queue = session.device().queue();
  session.communicator().barrier();
  for (std::int64_t n = 1024;; n *= 2) {
    const Tensor a = Tensor::zeros(session.device(), {n, n}, dtype, Category::other);
    const Tensor b = Tensor::zeros(session.device(), {n, n}, dtype, Category::other);
    const Tensor c = Tensor::zeros(session.device(), {n, n}, Dtype::float32, Category::other);
    double best = INFINITY;
    for (int i = 0; i < kProducts; ++i) {
      const auto start = queue.now();
      core::gemm(queue, core::Op::none, core::Op::none, 1, core::MatrixView(a), core::MatrixView(b), 0,
                 core::MatrixView(c));
      best = std::min(best, queue.now()->seconds_since(*start));
    }
    if (best >= kLongEnough || n == kLargest) return core::gemm_flops(n, n, n) / best;
  }
}

}  // namespace muonp::launch
