// Rates of this machine, for a cluster file: `muonp bench --write-cluster`. All ranks measure at once, so that they share
// their host as they do in a step, and of each rate the slowest rank's counts.
#pragma once

#include <optional>
#include <string>

#include "dist/plan/cluster.h"
#include "launch/program/session.h"

namespace muonp::launch {

struct ClusterMeasurement {
  std::string name;
  double memory_gib = 0;        // of a GPU, or of a CPU's host; 0: what a CPU's host has
  std::int64_t largest = 2048;  // n of the largest product
  double budget_seconds = 0.2;  // of each rate
};

// Collective. `known`: the same machine at other numbers of ranks, which is kept; the rates of this number are replaced. A
// job over several hosts measures the network, and needs what its ranks on one host do between themselves to be known, where
// they are several: Error.
dist::Cluster measure_cluster(Session& session, const ClusterMeasurement& options, std::optional<dist::Cluster> known);

}  // namespace muonp::launch
