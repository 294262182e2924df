#include "launch/commands/spectra_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "launch/report/table.h"
#include "launch/train/spectra_line.h"

namespace muonp::launch {

namespace {

struct Column {
  const char *title, *key;
};
constexpr Column kColumns[] = {{"N stable", "momentum.stable_rank"},
                               {"effective", "momentum.effective_rank"},
                               {"U stable", "update.stable_rank"},
                               {"effective", "update.effective_rank"},
                               {"W stable", "weight.stable_rank"},
                               {"effective", "weight.effective_rank"},
                               {"nuclear", "weight.nuclear_ratio"},
                               {"least", "weight.sigma_min"},
                               {"median", "weight.sigma_50"},
                               {"largest", "weight.sigma_max"},
                               {"cosine", "alignment.cosine"},
                               {"Gram", "alignment.gram"},
                               {"to owner", "feedback.alpha_to_owner"},
                               {"to workers", "feedback.alpha_to_workers"},
                               {"lag", "feedback.lag"},
                               {"gap", "feedback.gap"}};

std::string key_of(const std::string& kind, const char* key) { return fmt::format("{}{}.{}", kSpectraPrefix, kind, key); }

// In the order of the first line that has them.
void add_kinds(const RunHistory& run, std::vector<std::string>& kinds) {
  const auto add = [&](std::string_view key) {
    for (const Column& column : kColumns)
      if (key.starts_with(kSpectraPrefix) && key.ends_with(std::string(".") + column.key)) {
        const std::size_t begin = kSpectraPrefix.size(), end = key.size() - std::string_view(column.key).size() - 1;
        const std::string kind(key.substr(begin, end - begin));
        if (std::ranges::find(kinds, kind) == kinds.end()) kinds.push_back(kind);
        return;
      }
  };
  for (const MetricNumbers& line : run.lines)
    for (const auto& [key, value] : line) add(key);
}

struct Last {
  double step = 0;
  std::vector<std::string> cells;
  bool any = false;
};

Last last_values(const RunHistory& run, const std::string& kind, std::span<const Column> columns) {
  Last last;
  for (const Column& column : columns) {
    const std::vector<PlotPoint> points = curve(run, key_of(kind, column.key), RunAxis::step);
    last.cells.push_back(points.empty() ? "-" : fmt::format("{:.4g}", points.back().y));
    if (points.empty()) continue;
    last.any = true;
    last.step = points.back().x;
  }
  return last;
}

bool has_feedback(std::span<const RunHistory> runs, std::span<const std::string> kinds) {
  return std::ranges::any_of(runs, [&](const RunHistory& run) {
    return std::ranges::any_of(
        kinds, [&](const std::string& kind) { return !curve(run, key_of(kind, "feedback.lag"), RunAxis::step).empty(); });
  });
}

}  // namespace

std::string spectra_table(std::span<const RunHistory> runs) {
  std::vector<std::string> kinds;
  for (const RunHistory& run : runs) add_kinds(run, kinds);
  if (kinds.empty()) return "";
  std::span<const Column> columns(kColumns);
  if (!has_feedback(runs, kinds)) columns = columns.first(columns.size() - 4);
  std::vector<std::string> titles = {"matrices", "run", "step"};
  for (const Column& column : columns) titles.emplace_back(column.title);
  std::vector<Align> alignment(titles.size(), Align::right);
  alignment[0] = alignment[1] = Align::left;
  Table table(titles, alignment);
  table.caption("Spectra at the last record: stable and effective rank of momentum N, update U, weight W");
  for (const std::string& kind : kinds)
    for (const RunHistory& run : runs) {
      Last last = last_values(run, kind, columns);
      if (!last.any) continue;
      last.cells.insert(last.cells.begin(), {kind, run.name, fmt::format("{}", last.step)});
      table.add(std::move(last.cells));
    }
  return table.render();
}

}  // namespace muonp::launch
