// Forecasts as people and programs read them: `muonp plan --cluster`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launch/bench/planner.h"

namespace muonp::launch {

// Of one number of ranks.
struct PlanReport {
  int ranks = 0;
  double memory_of_rank = 0;
  Forecast configured;
  std::vector<Forecast> schemes;
  bool searched = false;         // --best
  std::optional<Forecast> best;  // nothing: none fits
  std::optional<Forecast> fits;  // where what is configured does not; nothing: none does
};

PlanReport make_plan_report(Planner& planner, bool search);
std::string plan_text(const PlanReport& report, const dist::Cluster& cluster, const std::string& model);
nlohmann::ordered_json plan_json(const PlanReport& report);

}  // namespace muonp::launch
