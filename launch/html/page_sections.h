// The parts of the page, in its order. Each is empty where no run has what it shows.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/html/chart.h"
#include "launch/html/page.h"

namespace muonp::launch {

using Runs = std::vector<ReportedRun>;

std::string summary_section(const Runs& runs);       // key figures, or a table of them
std::string difference_section(const Runs& runs);    // settings that differ
std::string loss_section(const Runs& runs);          // loss, with checkpoints and steps that were skipped
std::string optimization_section(const Runs& runs);  // learning rate, norm of the gradient
std::string speed_section(const Runs& runs);         // tokens/s, time a step and where it goes
std::string spectra_section(const Runs& runs);       // spectral diagnostics
std::string evaluation_section(const Runs& runs);    // eval.*
std::string ranks_section(const Runs& runs);         // owners' load and memory
std::string events_section(const Runs& runs);        // checkpoints, skipped steps
std::string other_section(const Runs& runs);         // numbers of metrics.jsonl that are nowhere above
std::string settings_section(const Runs& runs);      // all that do not differ

// <section> with a heading; empty if `content` is.
std::string section(const std::string& id, const std::string& title, const std::string& content);

// A table whose first column is text and whose others are numbers, in a frame that scrolls where the page is narrow.
struct PageTable {
  std::string caption;
  std::vector<std::string> titles;
  std::vector<std::vector<std::string>> rows;  // as many cells as titles; markup, already escaped
  bool titled = false;                         // a heading above says what the caption says, which is then for ears only
  bool text_only = false;                      // no numbers: all columns are left-aligned
};
std::string render(const PageTable& table);

// A chart of one key of every run that has it. `factor`: from the file's unit to the chart's.
struct KeyChart {
  std::string key, title, unit;
  Chart::Scale scale = Chart::Scale::linear;
  double factor = 1;
  int height = 180;
};
std::string chart_of(const Runs& runs, const KeyChart& what);

// First and last step of all that the runs have; never the same.
std::pair<double, double> step_range(const Runs& runs);

// Of any text, what may be the id of a figure.
std::string figure_id(std::string text);

// What a run is called, as markup with the mark of its colour.
std::string run_cell(const Runs& runs, std::size_t i);

}  // namespace muonp::launch
