// How long a prediction takes, and how much memory.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>

#include "launch/bench/cluster_file.h"
#include "launch/bench/plan_report.h"

namespace muonp::test {
namespace {

using namespace launch;

// A trillion parameters on ten thousand ranks: seconds and less than a gigabyte. The limits leave room for a busy machine.
TEST(Planner, ATrillionParametersOnTenThousandRanks) {
  RunConfig config;
  config.model.family = "llama";
  models::LlamaConfig& llama = config.model.llama;
  llama.layers = 128;
  llama.heads = 200;
  llama.kv_heads = 200;
  llama.width = 25600;
  llama.hidden = 68096;
  llama.context = 4096;
  llama.vocabulary = 128000;
  config.model = config.model.resolved();
  config.data.sequence = 4096;
  config.data.batch = 40000;
  config.data.micro_batch = 1;
  config.parallel.zero = 3;
  config.parallel.compute = "bfloat16";
  config.parallel.overlap = true;
  const dist::Cluster cluster = read_cluster(MUONP_CLUSTERS "/h100.yaml");
  const auto start = std::chrono::steady_clock::now();
  Planner planner(config, cluster, 10000);
  const PlanReport report = make_plan_report(planner, false);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(report.ranks, 10000);
  EXPECT_GT(report.configured.imbalance, 1);
  EXPECT_LT(seconds.count(), 60);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 2 << 20);  // KiB
}

}  // namespace
}  // namespace muonp::test
