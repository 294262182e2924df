// Predicted steps as a picture: what computes, what communicates and what the host does, over the time of a step.
#pragma once

#include <string>
#include <vector>

#include "launch/bench/plan_report.h"

namespace muonp::launch {

// A self-contained SVG: for each number of ranks a panel of the step as configured and, if it was searched for and is
// another one, of the fastest, below each other on one scale of time. A step with more passes than are simulated is drawn
// with as many as are, and its panel says so.
std::string plan_svg(const std::vector<PlanReport>& reports, const dist::Cluster& cluster, const std::string& model);

}  // namespace muonp::launch
