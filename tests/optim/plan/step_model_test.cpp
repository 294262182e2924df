// Predictions of steps small enough to be added up by hand, and what must hold of all of them.
#include "optim/plan/step_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "optim/rules/muonp.h"

namespace muonp::optim {
namespace {

constexpr double kRate = 1e9, kMemory = 1e6, kLink = 1e5;  // flop/s, B/s, B/s

dist::Cluster cluster_of(bool gpus = false) {
  dist::HostRates rates{.memory = kMemory, .overlap = 1};
  rates.products = {{core::Dtype::float32, 64, kRate}};
  rates.spectral = {{core::Dtype::float32, 64, kRate}};
  for (const dist::Pattern pattern : {dist::Pattern::all_reduce, dist::Pattern::reduce_scatter, dist::Pattern::all_gather,
                                      dist::Pattern::exchange, dist::Pattern::values})
    rates.links.push_back({pattern, 2, 0, kLink});
  dist::Cluster cluster{
      .name = "round", .source = "measured", .gpus = gpus, .hosts = 64, .ranks_per_host = 2, .memory_bytes = 1e9};
  cluster.network_bytes = kLink;
  cluster.rates = {rates};
  cluster.validate();
  return cluster;
}

// Layers of one matrix each; every operation of a pass multiplies 2e9 forward and 4e9 backward, and moves 1e6 bytes.
struct Model {
  static constexpr std::int64_t kSide = 64;
  explicit Model(int layers = 1) : parameters(static_cast<std::size_t>(layers)) {
    for (int i = 0; i < layers; ++i) {
      core::Parameter& p = parameters[static_cast<std::size_t>(i)];
      p.name = fmt::format("blocks.{}.weight", i);
      p.shape = {kSide, kSide};
      p.kind = core::ParameterKind::matrix;
      list.push_back(&p);
      work.forward.push_back({{&p}, {}, {{2e9, 64}}, 1e6, 1});
      work.backward.insert(work.backward.begin(), {{&p}, {&p}, {{4e9, 64}}, 1e6, 1});
    }
  }
  ExecutionPlan plan(int ranks, ParallelOptions options) {
    OptimizerConfig config;
    config.matrices.rule.as<Muonp>().dtype = "float32";
    options.bucket_elements = kSide * kSide;
    for (core::Parameter* p : list) options.reads.operation({p}, {p});
    return make_execution_plan(list, config, options, ranks);
  }
  std::vector<core::Parameter> parameters;
  core::ParameterList list;
  PassWork work;
};

StepPrediction predict(int ranks, const ParallelOptions& options, std::int64_t passes = 1, int layers = 1,
                       const dist::Cluster& cluster = cluster_of(), StepScheme scheme = StepScheme::sharded) {
  Model model(layers);
  return predict_step(model.plan(ranks, options), model.work, passes, dist::ClusterView(cluster, ranks), scheme);
}

constexpr double kElements = 64 * 64, kBytes = 4 * kElements;

double spectral_flops() {
  Model model;
  return model.plan(1, {}).owners.tasks().front().cost;
}

TEST(StepModel, OneRankHasNobodyToTalkTo) {
  const StepPrediction step = predict(1, {.zero = 1});
  EXPECT_NEAR(step.at(StepPhase::forward).exposed(), 2 + 1, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::backward).exposed(), 4 + 1, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::agree).exposed(), kBytes / kMemory, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::momentum).exposed(), 16 * kElements / kMemory, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::matrices).exposed(), spectral_flops() / kRate, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::update).exposed(), 12 * kElements / kMemory, 1e-12);
  EXPECT_EQ(step.bytes_sent(), 0);
  EXPECT_EQ(step.bound_by(), dist::Bound::products);
  EXPECT_NEAR(step.seconds(), 8 + (4 + 16 + 12) * kElements / kMemory + spectral_flops() / kRate, 1e-9);
}

// In line: one thing after the other.
TEST(StepModel, OneLayerOnTwoRanksByHand) {
  const StepPrediction step = predict(2, {.zero = 1});
  const double half = kBytes / 2, sent = half / kLink;
  EXPECT_NEAR(step.at(StepPhase::reduce).exposed(), sent, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::to_owners).exposed(), sent, 1e-12);  // the owner has the other half already
  EXPECT_NEAR(step.at(StepPhase::to_all).exposed(), sent, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::gather).exposed(), sent, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::agree).exposed(), half / kMemory + 8 * (2 + 3) / kLink, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::momentum).exposed(), 16 * kElements / 2 / kMemory, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::update).exposed(), 12 * kElements / 2 / kMemory, 1e-12);
  EXPECT_NEAR(step.at(StepPhase::matrices).exposed(), spectral_flops() / kRate, 1e-12);
  EXPECT_NEAR(step.seconds(),
              8 + 4 * sent + half / kMemory + 40 / kLink + 14 * kElements / kMemory + spectral_flops() / kRate, 1e-9);
  // Reduced and gathered: half of the bytes each; there and back: half of them from one of two ranks.
  EXPECT_DOUBLE_EQ(step.at(StepPhase::reduce).sent, half);
  EXPECT_DOUBLE_EQ(step.at(StepPhase::to_owners).sent, half / 2);
  EXPECT_DOUBLE_EQ(step.bytes_sent(), 2 * half + 2 * half / 2 + 40);
}

// Each rank has its rows already, and half of the work; what products take is sent while they are computed.
TEST(StepModel, RanksThatShareAMatrixHalveItsTime) {
  const ParallelOptions options{.zero = 1, .owners = dist::Owners::groups};
  const StepPrediction step = predict(2, options);
  const double planned = Model().plan(2, options).bytes_sent_per_step(), products = planned - kBytes;
  EXPECT_GT(products, 0);
  EXPECT_EQ(step.at(StepPhase::to_owners).seconds, 0);
  EXPECT_EQ(step.at(StepPhase::to_all).seconds, 0);
  EXPECT_DOUBLE_EQ(step.at(StepPhase::matrices).flops, spectral_flops() / 2);
  EXPECT_NEAR(step.at(StepPhase::matrices).exposed(), spectral_flops() / 2 / kRate + products / kLink, 1e-9);
  EXPECT_DOUBLE_EQ(step.bytes_sent(), planned + 40);
}

// Four ranks on two hosts share one matrix: of what each sends a third stays on its host, and one message in three.
TEST(StepModel, RanksThatShareAMatrixSendByLinksWithinAHost) {
  const ParallelOptions options{.zero = 1, .owners = dist::Owners::groups};
  const auto matrices = [&](double link_latency, double network_latency, double network) {
    dist::Cluster cluster = cluster_of();
    for (dist::LinkRate& link : cluster.rates[0].links) link.latency = link_latency;
    cluster.network_latency = network_latency;
    cluster.network_bytes = network;
    return predict(4, options, 1, 1, cluster).at(StepPhase::matrices).exposed();
  };
  const ExecutionPlan plan = Model().plan(4, options);
  ASSERT_EQ(plan.owners.group_size(0), 4);
  const double sent = plan.bytes_sent_per_step() - 2 * 3.0 / 4 * kBytes;  // but for reduction and gathering
  const double products = spectral_flops() / 4 / kRate, fast = 1e9 * kLink;
  EXPECT_NEAR(matrices(0, 0, fast), products + sent / 3 / kLink, 1e-9);
  EXPECT_NEAR(matrices(0, 0, kLink), products + 2 * sent * 2 / 3 / kLink, 1e-9);  // both ranks of a host
  const double near = matrices(1e-3, 0, fast) - matrices(0, 0, fast), far = matrices(0, 1e-3, fast) - matrices(0, 0, fast);
  EXPECT_GT(near, 1e-3);
  EXPECT_NEAR(far, 2 * near, 1e-9);
}

TEST(StepModel, AtStageZeroTheOwnerSendsItsUpdate) {
  const StepPrediction step = predict(2, {.zero = 0});
  EXPECT_NEAR(step.at(StepPhase::reduce).exposed(), kBytes / kLink, 1e-12);  // 2 (N − 1)/N
  EXPECT_EQ(step.at(StepPhase::to_owners).seconds, 0);
  EXPECT_NEAR(step.at(StepPhase::to_all).exposed(), kBytes / kLink, 1e-12);
  EXPECT_EQ(step.at(StepPhase::gather).seconds, 0);
  EXPECT_NEAR(step.at(StepPhase::momentum).exposed(), 16 * kElements / kMemory, 1e-12);
}

// The reduction of the last layer's bucket runs behind the backward pass of the first.
TEST(StepModel, OverlapHidesReductionsBehindTheBackwardPass) {
  const StepPrediction inline_ = predict(2, {.zero = 1}, 1, 2), overlapped = predict(2, {.zero = 1, .overlap = true}, 1, 2);
  const double sent = kBytes / 2 / kLink;
  EXPECT_NEAR(inline_.at(StepPhase::reduce).exposed(), 2 * sent, 1e-12);
  EXPECT_NEAR(overlapped.at(StepPhase::reduce).exposed(), sent, 1e-12);
  EXPECT_NEAR(inline_.at(StepPhase::reduce).seconds, overlapped.at(StepPhase::reduce).seconds, 1e-12);
  EXPECT_LT(overlapped.seconds(), inline_.seconds());
  dist::Cluster shared = cluster_of();
  shared.rates[0].overlap = 0;  // the thread that communicates takes the core of the one that computes
  EXPECT_NEAR(predict(2, {.zero = 1, .overlap = true}, 1, 2, shared).seconds(), inline_.seconds(), 1e-9);
}

// On a GPU weights that are gathered behind the next forward pass cost nothing where that is longer.
TEST(StepModel, GathersOfAStepHideBehindTheNextForwardPass) {
  const auto gather = [](bool gpus) {
    return predict(2, {.zero = 1, .overlap = true}, 1, 4, cluster_of(gpus)).at(StepPhase::gather).exposed();
  };
  EXPECT_GT(gather(false), 0);
  EXPECT_LT(gather(true), gather(false));
}

TEST(StepModel, StageThreeGathersInEveryPass) {
  const StepPrediction once = predict(2, {.zero = 3}, 1, 3), twice = predict(2, {.zero = 3}, 2, 3);
  EXPECT_GT(once.at(StepPhase::gather).sent, 0);
  EXPECT_DOUBLE_EQ(twice.at(StepPhase::gather).sent, 2 * once.at(StepPhase::gather).sent);
  EXPECT_DOUBLE_EQ(twice.at(StepPhase::reduce).sent, 2 * once.at(StepPhase::reduce).sent);
}

TEST(StepModel, PassesThatAreNotSimulatedAddWhatTheThirdDoes) {
  for (const int zero : {0, 1, 2, 3})
    for (const bool overlap : {false, true}) {
      const auto step = [&](std::int64_t passes) { return predict(2, {.zero = zero, .overlap = overlap}, passes, 3); };
      const double third = step(3).seconds() - step(2).seconds();
      EXPECT_NEAR(step(40).seconds(), step(3).seconds() + 37 * third, 1e-6) << zero << overlap;
      EXPECT_NEAR(step(40).at(StepPhase::forward).flops, 40 * step(1).at(StepPhase::forward).flops, 1) << zero << overlap;
    }
}

TEST(StepModel, ReplicatedMuonComputesEveryMatrixEverywhere) {
  const dist::Cluster cluster = cluster_of();
  const StepPrediction replicated = predict(2, {.zero = 0}, 1, 4, cluster, StepScheme::replicated);
  const StepPrediction broadcast = predict(2, {.zero = 0}, 1, 4, cluster, StepScheme::owner_broadcast);
  EXPECT_DOUBLE_EQ(replicated.at(StepPhase::matrices).flops, 4 * spectral_flops());
  EXPECT_DOUBLE_EQ(broadcast.at(StepPhase::matrices).flops, 2 * spectral_flops());
  // 2 (N − 1)/N and 3 (N − 1)/N of the bytes, and the numbers of norm and loss.
  EXPECT_DOUBLE_EQ(replicated.bytes_sent(), 4 * kBytes + 40);
  EXPECT_DOUBLE_EQ(broadcast.bytes_sent(), 1.5 * 4 * kBytes + 40);
}

// Reduced and gathered half of the bytes each, as at stage 1, and half of the momenta to the other rank.
TEST(StepModel, MomentaThatAllGatherAreComputedEverywhere) {
  const StepPrediction gathered = predict(2, {.zero = 1}, 1, 4, cluster_of(), StepScheme::gathered);
  EXPECT_DOUBLE_EQ(gathered.at(StepPhase::matrices).flops, 4 * spectral_flops());
  EXPECT_NEAR(gathered.at(StepPhase::matrices).exposed(), 4 * spectral_flops() / kRate, 1e-9);
  EXPECT_DOUBLE_EQ(gathered.at(StepPhase::to_owners).sent, 4 * kBytes / 2);
  EXPECT_NEAR(gathered.at(StepPhase::to_owners).exposed(), 4 * kBytes / 2 / kLink, 1e-9);
  EXPECT_EQ(gathered.at(StepPhase::to_all).sent, 0);
  EXPECT_NEAR(gathered.at(StepPhase::update).exposed(), 4 * 12 * kElements / 2 / kMemory, 1e-9);
  EXPECT_DOUBLE_EQ(gathered.bytes_sent(), 1.5 * 4 * kBytes + 40);
}

// Every rate and every latency on its own.
TEST(StepModel, NothingThatIsFasterMakesAStepSlower) {
  using Change = std::function<void(dist::Cluster&)>;
  const std::vector<Change> faster = {[](dist::Cluster& c) { c.rates[0].memory *= 2; },
                                      [](dist::Cluster& c) { c.rates[0].products[0].flops_per_second *= 2; },
                                      [](dist::Cluster& c) { c.rates[0].spectral[0].flops_per_second *= 2; },
                                      [](dist::Cluster& c) { c.rates[0].launch_seconds /= 2; },
                                      [](dist::Cluster& c) { c.rates[0].read_seconds /= 2; },
                                      [](dist::Cluster& c) { c.network_bytes *= 2; },
                                      [](dist::Cluster& c) { c.network_latency /= 2; },
                                      [](dist::Cluster& c) { c.rates[0].overlap = 1; }};
  for (const bool gpus : {false, true})
    for (const int ranks : {1, 2, 4, 16})
      for (const int zero : {0, 1, 2, 3})
        for (const bool overlap : {false, true}) {
          dist::Cluster cluster = cluster_of(gpus);
          cluster.network_latency = 1e-3;
          cluster.rates[0].launch_seconds = cluster.rates[0].read_seconds = 1e-3;
          cluster.rates[0].overlap = 0.5;
          for (dist::LinkRate& link : cluster.rates[0].links) link.latency = 1e-3;
          const auto seconds = [&](const dist::Cluster& c) {
            return predict(ranks, {.zero = zero, .overlap = overlap}, 2, 3, c).seconds();
          };
          const double before = seconds(cluster);
          for (std::size_t i = 0; i < faster.size(); ++i) {
            dist::Cluster changed = cluster;
            faster[i](changed);
            EXPECT_LE(seconds(changed), before * (1 + 1e-12)) << i << " " << ranks << " " << zero << overlap;
          }
          for (std::size_t l = 0; l < cluster.rates[0].links.size(); ++l) {
            dist::Cluster changed = cluster;
            changed.rates[0].links[l].bytes_per_second *= 2;
            EXPECT_LE(seconds(changed), before * (1 + 1e-12)) << "link " << l << " " << ranks << " " << zero << overlap;
          }
        }
}

// Compressed: 8 bits an element and a scale for each 256, from one rank to the owner and from the owner to one rank.
TEST(StepModel, CompressedMessagesByHand) {
  ParallelOptions options{.zero = 1};
  options.compression = parse_compression("int8", "int8", "none");
  const StepPrediction step = predict(2, options);
  const double wire = static_cast<double>(dist::make_compressor(dist::parse_compressor("int8"), 64, 64)->wire_bytes());
  EXPECT_DOUBLE_EQ(step.at(StepPhase::to_owners).sent, wire / 2);
  EXPECT_DOUBLE_EQ(step.bytes_sent(), 2 * wire / 2 + 40);
  EXPECT_EQ(step.at(StepPhase::reduce).seconds, 0);
  EXPECT_EQ(step.at(StepPhase::gather).seconds, 0);
  // The residual moves three numbers an element, the encoder three and the decoder two; the owner decodes both messages.
  EXPECT_NEAR(step.at(StepPhase::to_owners).exposed(), wire / kLink + (3 + 3 + 2 + 2 * 2) * kBytes / kMemory, 1e-9);
}

}  // namespace
}  // namespace muonp::optim
