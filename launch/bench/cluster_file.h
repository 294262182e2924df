// Cluster files: what `muonp plan --cluster` reads and `muonp bench --write-cluster` writes. docs/planner.md has every key.
#pragma once

#include <string>

#include "dist/plan/cluster.h"

namespace muonp::launch {

// Error as core::read_config for keys and numbers, and as Cluster::validate.
dist::Cluster read_cluster(const std::string& file);
// YAML that reads back to the same values.
std::string cluster_text(dist::Cluster cluster);

}  // namespace muonp::launch
