// What ranks hold and own, as planned at the start, and what happened beside the steps.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/base/units.h"
#include "launch/html/page_sections.h"
#include "launch/report/markup.h"

namespace muonp::launch {
namespace {

constexpr std::size_t kMostRanks = 16;   // in a table
constexpr std::size_t kMostEvents = 20;  // likewise
constexpr std::size_t kMostStepsNamed = 40;

double mean_load(const StartRecord& start) {
  return std::accumulate(start.load.begin(), start.load.end(), 0.0) / static_cast<double>(start.world_size());
}

// The ranks with the largest loads first where there are too many to show, else in order.
std::vector<std::size_t> shown_ranks(const StartRecord& start) {
  std::vector<std::size_t> ranks(start.world_size());
  std::iota(ranks.begin(), ranks.end(), std::size_t{0});
  if (ranks.size() <= kMostRanks) return ranks;
  std::ranges::stable_sort(ranks, std::greater<>(), [&](std::size_t r) { return start.load[r]; });
  ranks.resize(kMostRanks);
  return ranks;
}

std::string bar(double share, int colour) {
  return fmt::format("<span class=\"bar\" aria-hidden=\"true\"><i class=\"s{}\" style=\"width:{:.1f}%\"></i></span>", colour,
                     100 * std::clamp(share, 0.0, 1.0));
}

std::string bytes(std::int64_t value) { return core::format_bytes(value); }

std::string ranks_table(const Runs& runs, std::size_t i) {
  const StartRecord& start = *runs[i].record->start;
  const double mean = mean_load(start), largest = std::ranges::max(start.load);
  const std::vector<std::size_t> ranks = shown_ranks(start);
  const std::string whose = runs.size() > 1 ? runs[i].label + ": " : "";
  const std::string all = ranks.size() < start.world_size()
                              ? fmt::format("; the {} most loaded of {} ranks", ranks.size(), start.world_size())
                              : "";
  PageTable table{.caption = fmt::format("{}owners and memory, as planned; imbalance {:.3f} (largest load / mean){}", whose,
                                         start.imbalance, all),
                  .titles = {"rank", "load", "load / mean", "matrices", "weights", "gradients", "optimizer", "exchange",
                             "activations", "snapshot", "peak"},
                  .rows = {}};
  for (const std::size_t r : ranks)
    table.rows.push_back({std::to_string(r), bar(largest > 0 ? start.load[r] / largest : 0, 0),
                          mean > 0 ? fmt::format("{:.3f}", start.load[r] / mean) : "–", std::to_string(start.matrices[r]),
                          bytes(start.weights[r]), bytes(start.gradients[r]), bytes(start.optimizer[r]),
                          bytes(start.exchange[r]), bytes(start.activations[r]), bytes(start.snapshot[r]),
                          bytes(start.peak_bytes(r))});
  return render(table);
}

std::string places(const Runs& runs) {
  std::string text;
  for (const ReportedRun& run : runs)
    if (run.record->start)
      text +=
          fmt::format("<p class=\"note\">{}{} · {} · {} sent per rank and step, as planned</p>\n",
                      runs.size() > 1 ? escaped(run.label) + ": " : "", escaped(run.record->start->ranks),
                      escaped(run.record->start->device), bytes(static_cast<std::int64_t>(run.record->start->sent_bytes)));
  return text;
}

std::string checkpoint_table(const Runs& runs, std::size_t i) {
  const auto& events = runs[i].record->checkpoints;
  if (events.count == 0) return "";
  std::vector<SavedCheckpoint> shown = events.first;
  if (shown.size() > kMostEvents) shown.erase(shown.begin(), shown.end() - kMostEvents);
  if (shown.back().step != events.last->step) shown.back() = *events.last;
  const std::string few = std::ssize(shown) < events.count ? fmt::format("; {} of them", shown.size()) : "";
  PageTable table{.caption = fmt::format("{}{} checkpoint{}{}", runs.size() > 1 ? runs[i].label + ": " : "", events.count,
                                         events.count == 1 ? "" : "s", few),
                  .titles = {"after step", "size", "training waited", "in all"},
                  .rows = {}};
  for (const SavedCheckpoint& saved : shown)
    table.rows.push_back({fmt::format("{:.0f}", saved.step), bytes(static_cast<std::int64_t>(saved.bytes)),
                          core::format_duration(saved.blocked_seconds), core::format_duration(saved.total_seconds)});
  return render(table);
}

std::string steps_text(const Events<double>& events) {
  std::string text;
  for (std::size_t i = 0; i < std::min(events.first.size(), kMostStepsNamed); ++i)
    text += fmt::format("{}{:.0f}", i == 0 ? "" : ", ", events.first[i]);
  return text + (events.count > static_cast<std::int64_t>(kMostStepsNamed) ? ", …" : "");
}

std::string skipped_text(const Runs& runs) {
  std::string text;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const RunRecord& run = *runs[i].record;
    if (run.phases.steps == 0 && run.find("skipped") == nullptr) continue;
    const std::string whose = runs.size() > 1 ? run_cell(runs, i) + ": " : "";
    const std::string skipped = run.skipped.count == 0
                                    ? "no step was skipped"
                                    : fmt::format("{} step{} skipped: {}", run.skipped.count,
                                                  run.skipped.count == 1 ? "" : "s", steps_text(run.skipped));
    const std::string spikes =
        run.spikes.count == 0 ? "" : fmt::format("; loss jumped at {}: {}", run.spikes.count, steps_text(run.spikes));
    text += fmt::format("<p>{}{}{}.</p>\n", whose, skipped, spikes);
  }
  return text;
}

}  // namespace

std::string ranks_section(const Runs& runs) {
  std::string tables;
  for (std::size_t i = 0; i < runs.size(); ++i)
    if (runs[i].record->start && runs[i].record->start->world_size() > 0) tables += ranks_table(runs, i);
  return section("ranks", "Ranks", tables.empty() ? "" : places(runs) + tables);
}

std::string events_section(const Runs& runs) {
  std::string tables;
  for (std::size_t i = 0; i < runs.size(); ++i) tables += checkpoint_table(runs, i);
  return section("events", "Checkpoints and skipped steps", skipped_text(runs) + tables);
}

}  // namespace muonp::launch
