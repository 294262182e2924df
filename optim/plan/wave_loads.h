// What a wave of the exchange costs: the owners' work, and what is sent there and back. A pure function of the plan.
#pragma once

#include <vector>

#include "dist/plan/cluster.h"
#include "optim/plan/execution_plan.h"

namespace muonp::optim {

struct MessageLoad {   // bytes of a wave in one direction
  double mean = 0;     // that a rank sends to others
  double busiest = 0;  // that one rank sends or receives, at most
  double rounds = 0;   // messages of the busiest rank
};

struct SharedLoad {            // bytes between ranks that share matrices
  double mean = 0;             // that a rank sends to others
  dist::PairMessages busiest;  // the most of each number that a rank has
};

struct WaveLoad {
  double flops = 0, seconds = 0;  // of the updates of the owner that takes longest
  MessageLoad there, back;
  SharedLoad shared;  // while the matrices are computed
  // With compression: of all that a rank encodes for owners, of what the busiest owner decodes of all ranks, of the answers
  // that it encodes, and of those that every rank decodes; and the elements of the wave's matrices.
  double encode = 0, read = 0, answer = 0, apply = 0;
  double elements = 0, owned_elements = 0;
};

// Of the plan's own exchange, wave by wave. everyone: each rank computes all matrices, and nothing is sent.
std::vector<WaveLoad> exact_waves(const ExecutionPlan& plan, const dist::ClusterView& cluster, bool everyone = false);
// Of its compression, which it has.
std::vector<WaveLoad> compressed_waves(const ExecutionPlan& plan, const dist::ClusterView& cluster);

}  // namespace muonp::optim
