// Predictions of whole configurations on the shipped clusters and on one that is small; and what a run then sends and holds.
#include "launch/bench/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "dist/comm/decorators.h"
#include "launch/bench/cluster_file.h"
#include "launch/bench/plan_picture.h"
#include "launch/bench/plan_report.h"
#include "optim/rules/muonp.h"
#include "tests/support/device_ranks.h"
#include "tests/support/temporary_folder.h"

namespace muonp::test {
namespace {

using namespace launch;
using testing::HasSubstr;
using testing::ThrowsMessage;

const std::string kClusters = MUONP_CLUSTERS;

RunConfig small_run(std::int64_t batch = 16) {
  RunConfig config;
  config.model.gpt.layers = 2;
  config.model.gpt.heads = 2;
  config.model.gpt.width = 32;
  config.model.gpt.context = 16;
  config.model.gpt.vocabulary = 64;
  config.model = config.model.resolved();
  config.optimizer.matrices.rule.as<optim::Muonp>().dtype = "float32";
  config.data.sequence = 16;
  config.data.batch = batch;
  config.parallel.bucket_mib = 0.01;
  config.parallel.wave_mib = 0.01;
  return config;
}

// The rates of an H100 for whatever device, with so much memory for a rank.
dist::Cluster cluster_with(double memory_bytes, bool gpus = true) {
  dist::Cluster cluster = read_cluster(kClusters + "/h100.yaml");
  cluster.gpus = gpus;
  cluster.memory_bytes = gpus ? memory_bytes : memory_bytes * cluster.ranks_per_host;
  return cluster;
}

TEST(Planner, ShippedClustersReadAndWriteBack) {
  const TemporaryFolder folder;
  for (const auto& [name, source] : {std::pair("h100.yaml", "published"), std::pair("a100.yaml", "published"),
                                     std::pair("epyc-2-cores.yaml", "measured")}) {
    const dist::Cluster cluster = read_cluster(kClusters + "/" + name);
    EXPECT_EQ(cluster.source, source);
    put(folder / "copy.yaml", cluster_text(cluster));
    EXPECT_EQ(cluster_text(read_cluster(folder / "copy.yaml")), cluster_text(cluster));
  }
}

TEST(Planner, WhatIsWrongInAClusterFileIsNamed) {
  const TemporaryFolder folder;
  const std::string good = get(kClusters + "/h100.yaml");
  const auto expect = [&](const std::string& from, const std::string& to, const std::string& words) {
    std::string text = good;
    ASSERT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
    put(folder / "bad.yaml", text);
    EXPECT_THAT([&] { read_cluster(folder / "bad.yaml"); }, ThrowsMessage<core::Error>(HasSubstr(words))) << to;
  };
  expect("    memory_bytes_per_second: 3.35e12\n", "", "rates.0.memory_bytes_per_second: missing");
  expect("memory_bytes_per_second: 3.35e12", "memory_bytes_per_second: -1.0", "memory_bytes_per_second");
  expect("device: gpu\n", "device: tpu\n", "device: 'tpu' is not a valid value; valid values are cpu, gpu");
  expect("device: gpu\n", "", "device: missing");
  expect("source: published\n", "source: guessed\n", "valid values are published, estimated, measured");
  expect("overlap: 1.0", "overlap: 2.0", "overlap");
  expect("pattern: values", "pattern: value", "valid values are");
  expect("bytes_per_second: 4.0e11", "bytes_per_second: 0", "network.bytes_per_second: 0");
  expect("network:", "netwrok:", "network");
}

TEST(Planner, RanksHaveToFillHostsAndShareTheBatch) {
  const dist::Cluster cluster = cluster_with(1e12);
  EXPECT_THAT([&] { Planner(small_run(), cluster, 12); }, ThrowsMessage<core::Error>(HasSubstr("do not fill hosts of 8")));
  EXPECT_THAT([&] { Planner(small_run(), cluster, 3); }, ThrowsMessage<core::Error>(HasSubstr("data.batch")));
  EXPECT_THAT([&] { Planner(small_run(10008), cluster, 10008); }, ThrowsMessage<core::Error>(HasSubstr("10000 in all")));
}

TEST(Planner, MemoryIsThatOfTheRankThatNeedsMost) {
  for (const std::int64_t stage : {0, 1, 2, 3}) {
    RunConfig config = small_run();
    config.parallel.zero = stage;
    const dist::Cluster cluster = cluster_with(1e12);
    Planner planner(config, cluster, 4);
    const Forecast forecast = planner.as_configured();
    const auto model = models::make_model(config.model);
    const BatchPlan batches = make_batch_plan(config.data, 4);
    const auto plan = optim::make_execution_plan(model->parameters(), config.optimizer,
                                                 parallel_options(config, *model, core::DeviceKind::cuda), 4);
    std::int64_t most = 0;
    for (int r = 0; r < 4; ++r) most = std::max(most, planned_peak_bytes({config, *model, plan, batches, "", "", "", 0}, r));
    EXPECT_EQ(forecast.memory.total, most);
    EXPECT_EQ(forecast.imbalance, plan.owners.imbalance());
  }
}

TEST(Planner, SchemesSideBySide) {
  const dist::Cluster cluster = cluster_with(1e12);
  Planner planner(small_run(), cluster, 8);
  const std::vector<Forecast> schemes = planner.schemes();
  std::vector<std::string> names;
  for (const Forecast& f : schemes) {
    names.push_back(f.name);
    EXPECT_GT(f.step.seconds(), 0) << f.name;
    EXPECT_GT(f.memory.total, 0) << f.name;
  }
  EXPECT_THAT(names,
              testing::IsSupersetOf({"replicated Muon", "owner + broadcast", "all-gather of momentum", "ZeRO 0", "ZeRO 1",
                                     "ZeRO 2", "ZeRO 3", "ZeRO 1, int8 / int8", "ZeRO 1, top_k 0.1 / top_k 0.1"}));
  // The table of docs/parallelism.md.
  EXPECT_GT(schemes[1].step.bytes_sent(), schemes[0].step.bytes_sent());
  EXPECT_EQ(schemes[0].imbalance, 1);
  const auto flops = [&](std::size_t i) { return schemes[i].step.at(optim::StepPhase::matrices).flops; };
  EXPECT_EQ(flops(2), flops(0));  // every rank computes everything
  EXPECT_GT(flops(0), flops(4));
  EXPECT_LT(schemes[2].memory.bytes.optimizer, schemes[0].memory.bytes.optimizer);  // sharded
  EXPECT_GT(schemes[2].memory.bytes.exchange, schemes[0].memory.bytes.exchange);
}

// 4 · 23552² elements are more than 2³¹: the MLP's matrices.
TEST(Planner, ACompressorThatCannotTakeTheMatricesIsNoScheme) {
  RunConfig config = small_run();
  config.model.gpt.layers = 1;
  config.model.gpt.width = 23552;
  config.model.gpt.heads = 184;
  config.model = config.model.resolved();
  const dist::Cluster cluster = cluster_with(1e12);
  std::vector<std::string> names;
  for (const Forecast& f : Planner(config, cluster, 8).schemes()) names.push_back(f.name);
  EXPECT_THAT(names, testing::Contains("ZeRO 1, int8 / int8"));
  EXPECT_THAT(names, testing::Not(testing::Contains(HasSubstr("top_k"))));
  config.compression.to_owner = config.compression.to_workers = "top_k 0.1";
  EXPECT_THAT([&] { Planner(config, cluster, 8).as_configured(); },
              ThrowsMessage<core::Error>(HasSubstr("it numbers them in 32 bits, 2147483647 at most")));
}

// Four large matrices for eight ranks: shared over the links of a host, and not over a slow network.
TEST(Planner, OwnersAreGroupsWhereThatIsFaster) {
  RunConfig config = small_run();
  config.model.gpt.layers = 1;
  config.model.gpt.width = 4096;
  config.model.gpt.heads = 32;
  config.model = config.model.resolved();
  dist::Cluster cluster = cluster_with(1e12);
  std::optional<Forecast> best = Planner(config, cluster, 8).best();
  ASSERT_TRUE(best);
  EXPECT_EQ(best->settings.owners, "auto");
  EXPECT_LE(best->imbalance, 1.05);
  PlanSettings whole = best->settings;
  whole.owners = "whole";
  EXPECT_LT(best->step.seconds(), Planner(with(config, whole), cluster, 8).as_configured().step.seconds());
  cluster.hosts = 8;
  cluster.ranks_per_host = 1;
  cluster.network_bytes = 1e8;
  best = Planner(config, cluster, 8).best();
  ASSERT_TRUE(best);
  EXPECT_EQ(best->settings.owners, "whole");
}

TEST(Planner, WhatIsBestFitsAndIsFastest) {
  const dist::Cluster roomy = cluster_with(1e12);
  Planner all(small_run(), roomy, 4);
  const double needed = static_cast<double>(all.as_configured().memory.total);
  double before = 0;
  bool some_fit = true;
  for (const double share : {4.0, 1.0, 0.8, 0.6, 0.4, 0.25, 0.01}) {
    const dist::Cluster cluster = cluster_with(share * needed);
    Planner planner(small_run(), cluster, 4);
    const Forecast configured = planner.as_configured();
    const std::optional<Forecast> best = planner.best();
    EXPECT_EQ(configured.fits, share >= 1);
    if (!best) {
      EXPECT_LT(share, 0.6);
      EXPECT_FALSE(planner.that_fits(configured));
      some_fit = false;
      continue;
    }
    EXPECT_TRUE(some_fit) << share;  // less memory, and yet something fits
    EXPECT_TRUE(best->fits);
    EXPECT_LE(static_cast<double>(best->memory.total), share * needed);
    if (configured.fits) {
      EXPECT_LE(best->step.seconds(), configured.step.seconds());
    }
    EXPECT_GE(best->step.seconds() * 1.05, before);  // less memory makes nothing faster; refined settings are a local best
    before = best->step.seconds();
    // What is proposed is what a run with those settings would be.
    Planner again(with(small_run(), best->settings), cluster, 4);
    EXPECT_EQ(again.as_configured().memory.total, best->memory.total);
    EXPECT_DOUBLE_EQ(again.as_configured().step.seconds(), best->step.seconds());
    if (configured.fits) continue;
    const std::optional<Forecast> fits = planner.that_fits(configured);
    ASSERT_TRUE(fits);
    EXPECT_TRUE(fits->fits);
    EXPECT_NE(overrides(configured.settings, fits->settings), "");
  }
  EXPECT_FALSE(some_fit);
}

TEST(Planner, PicturesShowEveryStreamOverTheStep) {
  const dist::Cluster cluster = cluster_with(1e12);
  RunConfig config = small_run(64);
  config.parallel.overlap = true;
  config.data.micro_batch = 2;
  std::vector<PlanReport> reports;
  for (const int ranks : {2, 16}) {
    Planner planner(config, cluster, ranks);
    const PlanReport& report = reports.emplace_back(make_plan_report(planner, true));
    const optim::StepPrediction& step = report.configured.step;
    EXPECT_EQ(step.passes, 32 / ranks);
    EXPECT_EQ(step.simulated_passes, std::min(step.passes, std::int64_t{3}));
    std::map<dist::Stream, double> ends;
    for (const dist::TimelineSpan& span : step.spans) {
      EXPECT_GE(span.start, ends[span.stream]);
      EXPECT_GT(span.finish, span.start);
      ends[span.stream] = span.finish;
    }
    EXPECT_EQ(ends.size(), 3u);
    if (step.simulated_passes == step.passes) {
      EXPECT_NEAR(ends[dist::Stream::compute], step.seconds(), 1e-9 * step.seconds());
    }
  }
  const std::string svg = plan_svg(reports, cluster, "a <small> model");
  for (const char* text : {"<title>a &lt;small&gt; model</title>", ">2 ranks, ZeRO 1<", ">16 ranks, ZeRO 1<", ">compute<",
                           ">communication<", ">host<", "3 of its 16 passes are drawn",
                           "<title>backward: ", "<title>matrix updates: ", "--set data.micro_batch=32"})
    EXPECT_THAT(svg, HasSubstr(text));
  EXPECT_EQ(svg.find("of its 2 passes"), std::string::npos);
}

TEST(Planner, OverridesNameWhatChanges) {
  const PlanSettings from;
  PlanSettings to = from;
  EXPECT_EQ(overrides(from, to), "");
  to.zero = 3;
  to.recompute = true;
  EXPECT_EQ(overrides(from, to), "--set parallel.zero=3 --set model.recompute=blocks");
}

TEST(Planner, JsonHasWhatProgramsNeed) {
  const dist::Cluster cluster = cluster_with(1e12);
  Planner planner(small_run(), cluster, 4);
  const nlohmann::ordered_json json = plan_json(make_plan_report(planner, true));
  for (const char* key : {"step_seconds", "bound_by", "imbalance", "bytes_sent", "memory_bytes", "schemes", "best"})
    EXPECT_TRUE(json.contains(key)) << key;
  double parts = 0, sent = 0;
  for (const auto& phase : json["phases"]) {
    parts += phase["seconds"].get<double>();
    sent += phase["bytes_sent"].get<double>();
  }
  EXPECT_NEAR(parts, json["step_seconds"].get<double>(), 1e-9);
  EXPECT_NEAR(sent, json["bytes_sent"].get<double>(), 1e-6);
  EXPECT_EQ(json["ranks"], 4);
}

// Recomputation costs time and saves memory.
TEST(Planner, RecomputedBlocksAreComputedAgain) {
  RunConfig config = small_run();
  const dist::Cluster cluster = cluster_with(1e12);
  Planner planner(config, cluster, 4);
  config.model.gpt.recompute = "blocks";
  Planner again(config, cluster, 4);
  const Forecast plain = planner.as_configured(), recomputed = again.as_configured();
  const auto backward = [](const Forecast& f) { return f.step.at(optim::StepPhase::backward).flops; };
  const auto forward = [](const Forecast& f) { return f.step.at(optim::StepPhase::forward).flops; };
  EXPECT_DOUBLE_EQ(forward(plain), forward(recomputed));
  EXPECT_NEAR(backward(plain), 2 * forward(plain), 1e-6 * backward(plain));
  // All but the head, 2 · 64 · 32 operations a token of 4 · 16.
  EXPECT_NEAR(backward(recomputed) - backward(plain), forward(plain) - 2.0 * 64 * 32 * 64, 1e-6 * backward(plain));
  const auto model = models::make_model(config.model);
  EXPECT_NEAR(forward(plain) + backward(plain), model->step_flops(4, 16) - model->skipped_flops(4, 16), 1);
}

// ---- a run ----

models::TokenBatch tokens(const RunConfig& config, std::int64_t rows) {
  const auto ids = [&] {
    const core::Tensor t = core::Tensor::on_host({rows, config.data.sequence}, core::Dtype::int32);
    for (std::int64_t i = 0; i < t.size(); ++i) t.data<std::int32_t>()[i] = static_cast<std::int32_t>(i % 64);
    return t;
  };
  return {ids(), ids()};
}

struct Held {
  std::int64_t weights = 0, gradients = 0, optimizer = 0, exchange = 0, total = 0;
  double sent = 0;
};

// The step of a Learner: passes, norm, loss, update. Bytes of the second step, of all ranks.
Held run_steps(const RunConfig& config, int ranks) {
  Held held;
  std::mutex mutex;
  run_on_devices(ranks, [&](dist::Communicator& inner, core::Device& device) {
    const std::int64_t of_device = device.allocator()->use().live_total;  // a GPU's workspace for products
    dist::Recording recording(inner, dist::Recording::Keep::totals);
    const auto model = models::make_model(config.model);
    const BatchPlan batches = make_batch_plan(config.data, ranks);
    optim::DistributedOptimizer optimizer(device, model->parameters(), config.optimizer,
                                          parallel_options(config, *model, device.kind()), recording);
    optimizer.initialize(1);
    for (int step = 0; step < 2; ++step) {
      recording.clear();
      for (std::int64_t pass = 0; pass < batches.passes; ++pass) {
        optimizer.begin_pass(pass == 0, pass == batches.passes - 1);
        core::Tape tape(device, true, &optimizer.weights());
        const core::Variable loss = model->loss(tape, tokens(config, batches.micro_batch), {});
        tape.backward(loss, 1, model->parameters(), optimizer.gradients());
      }
      optimizer.prepare();
      double values[3] = {};
      recording.all_reduce(std::span<double>(values), dist::Reduce::sum);
      optimizer.apply(1, {.loss = 1});
    }
    const core::MemoryUse use = device.allocator()->use();
    const std::lock_guard lock(mutex);
    held.sent += static_cast<double>(recording.total().bytes);
    held.weights = std::max(held.weights, use.peak_of(core::Category::weights));
    held.gradients = std::max(held.gradients, use.peak_of(core::Category::gradients));
    held.optimizer = std::max(held.optimizer, use.peak_of(core::Category::optimizer));
    held.exchange = std::max(held.exchange, use.peak_of(core::Category::exchange));
    held.total = std::max(held.total, use.peak_total - of_device);
  });
  return held;
}

TEST(Planner, ARunSendsAndHoldsWhatIsPredicted) {
  struct Case {
    std::int64_t stage, passes;
    const char *to_owner, *others;
  };
  for (const int ranks : {1, 2, 4})
    for (const Case& c : {Case{0, 1, "none", "none"}, Case{1, 2, "none", "none"}, Case{2, 2, "none", "none"},
                          Case{3, 4, "none", "none"}, Case{1, 1, "int8", "none"}, Case{0, 2, "top_k 0.1", "int8"}}) {
      SCOPED_TRACE(fmt::format("{} ranks, stage {}, {} passes, {}", ranks, c.stage, c.passes, c.to_owner));
      RunConfig config = small_run();
      config.data.micro_batch = config.data.batch / ranks / c.passes;
      config.parallel.zero = c.stage;
      config.compression = {c.to_owner, c.to_owner, c.others};
      const dist::Cluster cluster = cluster_with(1e12, test_device_kind() == core::DeviceKind::cuda);
      Planner planner(config, cluster, ranks);
      const Forecast forecast = planner.as_configured();
      const Held held = run_steps(config, ranks);
      EXPECT_NEAR(held.sent / ranks, forecast.step.bytes_sent(), 1e-9 * held.sent);
      EXPECT_EQ(held.weights, forecast.memory.bytes.weights);
      EXPECT_EQ(held.gradients, forecast.memory.bytes.gradients);
      EXPECT_GE(held.optimizer, forecast.memory.bytes.optimizer);  // of the rank that needs most in all
      EXPECT_LE(static_cast<double>(held.optimizer), 1.02 * static_cast<double>(forecast.memory.bytes.optimizer));
    }
}

// Matrices on their way, and what their owner's rule takes for them: copies where they do not lie as it wants, and scratch.
TEST(Planner, EveryRulesExchangeIsPlanned) {
  const bool gpus = test_device_kind() == core::DeviceKind::cuda;
  for (const std::string_view name : optim::rule_names()) {
    if (!optim::AnyRule(name)->needs().whole_matrices) continue;
    for (const int ranks : {1, 2})
      for (const std::int64_t stage : {0, 1}) {
        SCOPED_TRACE(fmt::format("{}, {} ranks, stage {}", name, ranks, stage));
        RunConfig config = small_run(4);
        config.optimizer.matrices.rule = optim::AnyRule(name);
        config.optimizer.matrices.splits = {{.name = "qkv", .pattern = "*.qkv.weight", .parts = {"q", "k", "v"}}};
        config.optimizer = config.optimizer.for_run(10);
        config.data.micro_batch = 4 / ranks;
        config.parallel.zero = stage;
        config.parallel.wave_mib = 4;  // all of a shape in one
        const dist::Cluster cluster = cluster_with(1e12, gpus);
        Planner planner(config, cluster, ranks);
        const auto planned = static_cast<double>(planner.as_configured().memory.bytes.exchange);
        const auto held = static_cast<double>(run_steps(config, ranks).exchange);
        EXPECT_LE(held, 1.02 * planned + 4096);
        EXPECT_GE(held, 0.7 * planned);
      }
  }
}

// Buckets of weights and of gradients are whole at other moments than activations are at their most: the peak is less than
// the sum of what is largest, and more than activations alone. What one stretch of a pass has at its beginning and what at
// its end is not told apart: the gradient of the MLP's last matrix, and at stage 3 its weights, may be gone when its
// activation function is undone.
TEST(Planner, ThePeakIsOfTheMomentWhenMostIsThere) {
  const bool gpus = test_device_kind() == core::DeviceKind::cuda;
  for (const int ranks : {1, 2, 4})
    for (const std::int64_t stage : {0, 1, 2, 3})
      for (const bool llama : {false, true})
        for (const char* recompute : {"none", "blocks"})
          for (const std::int64_t time : {8, 64}) {
            SCOPED_TRACE(fmt::format("{} ranks, stage {}, {}, recompute {}, {} tokens", ranks, stage,
                                     llama ? "llama" : "gpt", recompute, time));
            RunConfig config = small_run(4);
            config.data.sequence = time;
            config.data.micro_batch = 4 / ranks;
            config.parallel.zero = stage;
            config.model.gpt.layers = 4;
            config.model.gpt.width = 64;
            config.model.gpt.context = time;
            config.model.gpt.recompute = recompute;
            if (llama) {
              config.model.family = "llama";
              models::LlamaConfig& c = config.model.llama;
              c.layers = 4, c.heads = 4, c.kv_heads = 2, c.width = 64, c.hidden = 176, c.context = time, c.vocabulary = 64;
              c.recompute = recompute;
            }
            config.model = config.model.resolved();
            config.parallel.bucket_mib = 0.05;
            const dist::Cluster cluster = cluster_with(1e12, gpus);
            Planner planner(config, cluster, ranks);
            const MemoryForecast memory = planner.as_configured().memory;
            const auto planned = static_cast<double>(memory.total - (gpus ? 0 : memory.snapshot));
            const auto held = static_cast<double>(run_steps(config, ranks).total);
            EXPECT_GE(planned, 0.98 * held);
            const double last_matrix = 4.0 * 64 * (llama ? 176 : 4 * 64);
            EXPECT_LE(planned, 1.02 * held + last_matrix * static_cast<double>(std::max<std::int64_t>(0, stage - 1)));
          }
}

}  // namespace
}  // namespace muonp::test
