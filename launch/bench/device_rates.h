// Rates of a rank's device: products, recurrences, memory, launches, compressors, and what passes do beside their products.
#pragma once

#include "dist/plan/cluster.h"
#include "launch/program/session.h"

namespace muonp::launch {

// All of `rates` but ranks, links and overlap. Collective.
void measure_device(Session& session, std::int64_t largest, double budget_seconds, dist::HostRates& rates);

}  // namespace muonp::launch
