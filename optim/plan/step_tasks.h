// A step as a list of tasks: each pass, then the update, submitted as the trainer submits them. Inside step_model.cpp.
#pragma once

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "optim/plan/step_graph.h"
#include "optim/plan/wave_loads.h"

namespace muonp::optim {

// Whole buckets of weights of one plan, as dist/zero/weight_gatherer.h makes and releases them in a pass.
class StopWalk {
 public:
  StopWalk(const dist::ShardPlan& shards, const dist::GatherPlan& gathers, core::Dtype type, StepGraph& graph,
           const dist::ClusterView& cluster);
  void begin() { entered_ = 0; }
  void acquire(const std::vector<int>& parameters);  // before an operation reads them

 private:
  bool reads(const dist::GatherPlan::Stop& stop, const std::vector<int>& parameters) const;

  const dist::ShardPlan& shards_;
  const std::vector<dist::GatherPlan::Stop>& stops_;
  double size_;
  StepGraph& graph_;
  const dist::ClusterView& cluster_;
  std::vector<StepGraph::Ticket> gathered_;  // by bucket
  std::size_t entered_ = 0;
};

// An operation of a pass in the numbers of the plan.
struct Operation {
  DeviceWork work;
  std::vector<int> reads, frozen_reads, completes;  // `completes`: of sharded parameters
};

class StepTasks {
 public:
  StepTasks(const ExecutionPlan& plan, const PassWork& work, const dist::ClusterView& cluster, StepScheme scheme);
  StepPrediction run(std::int64_t passes);

 private:
  void one_step(std::int64_t passes);
  void pass(bool first, bool last);
  void acquire(const Operation& operation);
  void complete(int parameter, bool last);
  void reduce(int bucket);
  void retire();
  void prepare();
  void update();
  void move(int parameter);
  void direct(const Groups& groups, int parameter, double elements);
  void gather_partners();
  void exchange();
  void exchange_compressed();
  void local_updates();
  void broadcast_updates();
  void gathered_updates();
  double wave_elements(int wave) const;
  void apply_wave(int wave);
  void updated(int parameter);
  void finish_weights();
  StepGraph::Ticket send(StepPhase phase, const MessageLoad& load);

  double kept(double elements) const { return plan_.zero.keeps_slice ? elements / n_ : elements; }
  double size_of(int parameter) const { return static_cast<double>(plan_.shards.in_bucket(parameter).count()); }

  const ExecutionPlan& plan_;
  const dist::ClusterView& cluster_;
  StepScheme scheme_;
  double n_, weight_bytes_;
  std::vector<Operation> forward_, backward_;
  std::vector<int> last_completed_;  // sharded parameters that no operation reads
  std::vector<WaveLoad> waves_, compressed_;

  std::optional<StepGraph> graph_;
  std::optional<StopWalk> walk_, frozen_walk_;
  std::vector<int> missing_, pending_;      // by bucket
  std::vector<StepGraph::Ticket> gathers_;  // by bucket: of updated weights
  std::deque<std::pair<int, StepGraph::Ticket>> in_flight_;
  int next_bucket_ = 0;
  bool first_ = false;  // the pass under way is the step's first
};

}  // namespace muonp::optim
