// What is printed, written and drawn of a sweep.
#pragma once

#include <string>
#include <vector>

#include "launch/report/svg_plot.h"
#include "launch/report/table.h"
#include "launch/sweep/summary.h"

namespace muonp::launch {

// A row an arm, at its best setting.
Table arms_table(const Expansion& sweep, const SweepSummary& summary);
// A row a setting.
Table points_table(const Expansion& sweep, const SweepSummary& summary);
// What the table alone would leave unsaid: a best setting at the end of what was tried, an arm without one, runs that
// failed.
std::vector<std::string> remarks(const Expansion& sweep, const SweepSummary& summary, const Results& results);

// One object (docs/sweep.md), with a line break at its end.
std::string sweep_json(const Expansion& sweep, const SweepSummary& summary, const Results& results,
                       const std::string& figure);

// The metric over the axis, a curve an arm; without an axis, over the arms, or the settings of the only one.
Plot sweep_plot(const Expansion& sweep, const SweepSummary& summary);

}  // namespace muonp::launch
