#include "tests/launch/train/zero_training.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <mutex>
#include <tuple>

#include "core/base/rng.h"
#include "dist/comm/decorators.h"
#include "dist/comm/local.h"
#include "models/generation/generate.h"
#include "models/registry.h"
#include "optim/engine/distributed_optimizer.h"
#include "optim/rules/muonp.h"
#include "tests/support/test_device.h"

namespace muonp::test {

namespace {

using core::Category;
using core::Tensor;
using dist::OperationKind;

constexpr std::int64_t kTime = 3, kVocabulary = 11, kWave = 200;

models::GptConfig gpt_of(const ZeroRun& run) {
  models::GptConfig c;
  c.layers = 2;
  c.heads = 2;
  c.width = 8;
  c.context = kTime;
  c.vocabulary = kVocabulary;
  c.mlp_ratio = 2;
  c.dropout = 0.1;
  c.tied_head = run.tied;
  c.recompute = run.recompute ? "blocks" : "none";
  return c;
}

// Grouped heads whose width is not the stream's; layers are larger than a bucket.
models::LlamaConfig llama_of(const ZeroRun& run) {
  models::LlamaConfig c;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_size = 4;
  c.width = 8;
  c.hidden = 12;
  c.context = kTime;
  c.vocabulary = kVocabulary;
  c.tied_head = run.tied;
  c.recompute = run.recompute ? "blocks" : "none";
  return c;
}

models::ModelConfig config_of(const ZeroRun& run) {
  models::ModelConfig c;
  c.family = run.family;
  c.gpt = gpt_of(run);
  c.llama = llama_of(run);
  if (run.lora.empty()) return c;
  c.lora.rank = 2;
  c.lora.alpha = 6;
  c.lora.dropout = 0.1;
  c.lora.modules = {"*"};
  return c;
}

// Two documents in every sequence, or one of a GPT.
Tensor begins_of(const models::TokenBatch& batch, const std::string& family) {
  if (family == "gpt") return {};
  const Tensor begins = Tensor::on_host(batch.inputs.shape(), core::Dtype::int32);
  for (std::int64_t i = 0; i < begins.size(); ++i) begins.data<std::int32_t>()[i] = i % kTime == kTime - 1 ? kTime - 1 : 0;
  return begins;
}

optim::OptimizerConfig optimizer_config(const ZeroRun& run) {
  optim::OptimizerConfig c;
  c.matrices.lr = 5e-3;
  c.matrices.rule.as<optim::Muonp>().dtype = "float32";  // on GPUs too
  c.others.lr = 5e-3;
  if (run.lora.empty()) return c;
  auto& rule = c.matrices.rule.as<optim::Muonp>();
  rule.lora = run.lora;
  rule.method = "svd";  // factors are thin, and their smallest singular values are rounding's
  rule.p = "1/2";
  return c;
}

optim::ParallelOptions options_of(const ZeroRun& run, const models::LanguageModel& model) {
  return {.zero = run.zero,
          .bucket_elements = run.bucket_elements,
          .wave_elements = kWave,
          .overlap = run.overlap,
          .weight_dtype = run.weight_dtype,
          .offload = run.offload,
          .prefetch = run.prefetch,
          .reads = model.weight_reads()};
}

// Every token follows from the one before, with a start for each row of each step.
Tensor tokens(std::int64_t step, std::int64_t first, std::int64_t rows, std::int64_t shift) {
  const Tensor t = Tensor::on_host({rows, kTime}, core::Dtype::int32);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto start = static_cast<std::int64_t>(
        core::random_below(9, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(first + r), kVocabulary));
    for (std::int64_t i = 0; i < kTime; ++i)
      t.data<std::int32_t>()[r * kTime + i] = static_cast<std::int32_t>((start + 3 * (i + shift)) % kVocabulary);
  }
  return t;
}

double run_pass(core::Device& device, models::LanguageModel& model, optim::DistributedOptimizer& optimizer,
                std::int64_t step, std::int64_t first, std::int64_t rows, const ZeroRun& run) {
  core::Tape tape(device, true, &optimizer.weights());
  models::TokenBatch batch{tokens(step, first, rows, 0), tokens(step, first, rows, 1)};
  batch.begins = begins_of(batch, run.family);
  const core::Variable loss = model.loss(tape, batch, {5, static_cast<std::uint64_t>(step), first});
  tape.backward(loss, 1.0f / static_cast<float>(run.passes), model.parameters(), optimizer.gradients());
  return static_cast<double>(core::read_scalar(device.queue(), loss->value)) / run.passes;
}

void expect_recorded_as_planned(const dist::Recording& recording, const optim::ExecutionPlan& plan, int passes) {
  const auto n = plan.shards.world_size();
  const auto buckets = static_cast<std::int64_t>(plan.shards.buckets().size());
  const int zero = plan.options.zero;
  std::int64_t gathers = zero == 0 ? 0 : buckets, elements = zero == 0 ? 0 : plan.shards.padded_elements();
  if (zero == 3) {
    gathers = elements = 0;
    for (const auto* gathered : {&plan.gathers, &plan.frozen_gathers}) {
      if (!*gathered) continue;
      for (const auto& stop : (*gathered)->training().stops)
        gathers += static_cast<std::int64_t>(stop.gather.size()) * passes;
      elements += (*gathered)->training().gathered * passes;
    }
  }
  std::int64_t bytes = elements * core::size_of(plan.options.weight_dtype);
  for (int b = 0; b < buckets; ++b)
    if (zero > 0 && plan.has_partner(b)) {
      ++gathers;
      bytes += 4 * plan.shards.buckets()[static_cast<std::size_t>(b)].size;
    }
  EXPECT_EQ(recording.total(OperationKind::all_gather).calls, gathers);
  EXPECT_EQ(recording.total(OperationKind::all_gather).bytes, bytes / n * (n - 1));
  const std::int64_t reductions = buckets * (zero >= 2 ? passes : 1);
  EXPECT_EQ(recording.total(zero == 0 ? OperationKind::all_reduce : OperationKind::reduce_scatter).calls, reductions);
  if (zero > 0) {
    EXPECT_EQ(recording.total(OperationKind::reduce_scatter).bytes,
              4 * plan.shards.padded_elements() / n * (n - 1) * (zero >= 2 ? passes : 1));
  }
  EXPECT_EQ(recording.total(OperationKind::exchange).calls, plan.owners.waves() * (zero == 0 ? 1 : 2));
}

// Sum over ranks; the plan's figure is their mean.
void expect_sent_as_planned(dist::Communicator& communicator, const dist::Recording& recording,
                            const optim::ExecutionPlan& plan, int passes) {
  double sent = 0;
  for (const auto kind :
       {OperationKind::reduce_scatter, OperationKind::all_gather, OperationKind::exchange, OperationKind::all_reduce})
    sent += static_cast<double>(recording.total(kind).bytes);
  communicator.all_reduce(std::span<double>(&sent, 1), dist::Reduce::sum);
  const double planned = plan.bytes_sent_per_step(passes) * communicator.size();
  EXPECT_NEAR(sent, planned, 1e-9 * planned);
}

void expect_allocated_as_planned(core::Device& device, const optim::ExecutionPlan::Bytes& planned, const ZeroRun& run) {
  const core::MemoryUse used = device.allocator()->use();
  EXPECT_EQ(used.peak_of(Category::weights), planned.weights);
  EXPECT_EQ(used.peak_of(Category::gradients), planned.gradients);
  EXPECT_EQ(used.peak_of(Category::optimizer), planned.optimizer);
  // Matrices that come to lie one after the other are not copied together (optim/rules/spectral_step.h).
  EXPECT_LE(used.peak_of(Category::exchange), planned.exchange);
  // The method svd, which adapters have here, computes on the host: of a GPU it does not take the scratch memory that is
  // planned.
  if (run.lora.empty() || device.kind() == core::DeviceKind::cpu) {
    EXPECT_GE(static_cast<double>(used.peak_of(Category::exchange)), 0.98 * static_cast<double>(planned.exchange));
  }
  if (device.kind() == core::DeviceKind::cuda) {
    EXPECT_EQ(device.host_allocator()->use().of(Category::optimizer), planned.host);
  }
}

// Frozen weights are bit for bit those of the seed. Collective.
void expect_frozen_as_made(models::LanguageModel& model, optim::DistributedOptimizer& optimizer) {
  optimizer.begin_evaluation();
  for (const auto& read : model.weight_reads().forward) {
    optimizer.weights().acquire(read);
    for (const core::Parameter* p : core::frozen_of(read)) {
      std::vector<float> made(static_cast<std::size_t>(p->size()));
      core::initialize(*p, 3, 0, p->size(), made.data());
      std::vector<float> there;
      if (p->value.dtype() == core::Dtype::float32) {
        there = values_of(p->value);
      } else {
        for (float& x : made) x = static_cast<float>(core::bfloat16(x));
        for (const core::bfloat16 x : values_of<core::bfloat16>(p->value)) there.push_back(static_cast<float>(x));
      }
      EXPECT_EQ(there, made) << p->name;
    }
  }
  optimizer.wait_for_weights();
}

}  // namespace

std::int64_t zero_batch(int ranks) { return ranks <= 4 ? 24 : 70; }

int zero_steps() {
  if (const char* steps = std::getenv("MUONP_ZERO_STEPS")) return std::atoi(steps);
#ifdef MUONP_CUDA_HOST
  return 2;
#else
  return 20;
#endif
}

std::vector<std::vector<std::int32_t>> generate_zero(dist::Communicator& communicator, core::Device& device,
                                                     const ZeroRun& run, bool cache) {
  const auto model = models::make_model(config_of(run));
  optim::DistributedOptimizer optimizer(device, model->parameters(), optimizer_config(run), options_of(run, *model),
                                        communicator);
  optimizer.initialize(3);
  const std::vector<models::Prompt> prompts = {{{1}}, {{4, 2}}};
  models::GenerationOptions options{.tokens = 6, .sampling = {.temperature = 0}};  // past the context
  options.cache = cache;
  const auto texts = models::generate(device, *model, prompts, options, {}, [&] {
    optimizer.begin_evaluation();
    return core::Tape(device, false, &optimizer.weights());
  });
  optimizer.wait_for_weights();
  return texts;
}

std::vector<double> train_zero(dist::Communicator& inner, core::Device& device, const ZeroRun& run) {
  dist::Recording communicator(inner, dist::Recording::Keep::totals);
  const auto model = models::make_model(config_of(run));
  optim::DistributedOptimizer optimizer(device, model->parameters(), optimizer_config(run), options_of(run, *model),
                                        communicator);
  optimizer.initialize(3);
  const std::int64_t batch = run.batch > 0 ? run.batch : zero_batch(inner.size());
  const std::int64_t rows = batch / inner.size() / run.passes;
  std::vector<double> losses;
  for (std::int64_t step = 0; step < zero_steps(); ++step) {
    communicator.clear();
    double loss = 0;
    for (int pass = 0; pass < run.passes; ++pass) {
      optimizer.begin_pass(pass == 0, pass == run.passes - 1);
      loss += run_pass(device, *model, optimizer, step, (inner.rank() * run.passes + pass) * rows, rows, run);
    }
    optimizer.step(1.0);
    expect_recorded_as_planned(communicator, optimizer.plan(), run.passes);
    expect_sent_as_planned(inner, communicator, optimizer.plan(), run.passes);
    inner.all_reduce(std::span<double>(&loss, 1), dist::Reduce::sum);
    losses.push_back(loss / inner.size());
  }
  expect_allocated_as_planned(device, optimizer.plan().bytes(inner.rank()), run);
  expect_frozen_as_made(*model, optimizer);
  optimizer.require_equal_weights();
  return losses;
}

const std::vector<double>& zero_reference(int ranks, const std::string& family, const std::string& lora) {
  static std::mutex mutex;  // ranks may be threads
  static std::map<std::tuple<std::string, std::string, std::int64_t>, std::vector<double>> known;
  const std::scoped_lock lock(mutex);
  std::vector<double>& losses = known[{family, lora, zero_batch(ranks)}];
  if (losses.empty()) {
    const TestDevice device = make_cpu_test_device(1);
    losses = train_zero(*dist::make_local(), *device, {.batch = zero_batch(ranks), .family = family, .lora = lora});
  }
  return losses;
}

void expect_equal_losses(const std::vector<double>& losses, int ranks, const std::string& family, const std::string& lora) {
  const std::vector<double>& expected = zero_reference(ranks, family, lora);
  ASSERT_EQ(losses.size(), expected.size());
  for (std::size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << "step " << i + 1;
}

}  // namespace muonp::test
