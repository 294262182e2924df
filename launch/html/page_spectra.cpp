// Spectral diagnostics (docs/diagnostics.md): for each kind of matrix its singular values over the steps as heat maps,
// stable and effective rank as curves, the ranks of its layers, and how momentum and weight lie to each other.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "launch/html/heat_map.h"
#include "launch/html/page_sections.h"
#include "launch/html/spectra.h"
#include "launch/report/markup.h"

namespace muonp::launch {
namespace {

constexpr std::size_t kCells = 64;  // of a heat map's row
constexpr const char* kOf[] = {"momentum", "update", "weight"};

struct Quantile {
  const char *figure, *name;
};
constexpr Quantile kQuantiles[] = {
    {"sigma_max", "largest"}, {"sigma_90", "90 %"}, {"sigma_50", "median"}, {"sigma_10", "10 %"}, {"sigma_min", "least"}};

// In the model's order.
std::vector<std::string> kinds_of(const Runs& runs) {
  std::vector<std::string> kinds;
  for (const ReportedRun& run : runs)
    for (const auto& [name, kind] : run.record->matrices)
      if (std::ranges::find(kinds, kind) == kinds.end()) kinds.push_back(kind);
  return kinds;
}

std::string key_of(const std::string& matrix, const std::string& of, const std::string& figure) {
  return fmt::format("spectra.{}.{}.{}", matrix, of, figure);
}

std::string whose(const Runs& runs, std::size_t i) { return runs.size() > 1 ? runs[i].label + ": " : ""; }

HeatMap map_of(const Runs& runs, const std::string& id, const std::string& title, const std::string& unit) {
  HeatMap map{.id = figure_id(id), .title = title, .unit = unit, .note = "", .rows = {}};
  std::tie(map.x_low, map.x_high) = step_range(runs);
  return map;
}

std::string singular_values(const Runs& runs, std::size_t i, const std::string& kind, const std::string& of) {
  HeatMap map = map_of(runs, fmt::format("sigma-{}-{}-{}", i, kind, of), whose(runs, i) + of, "singular values");
  map.logarithmic = true;
  for (const Quantile& q : kQuantiles)
    if (const ThinnedSeries* series = runs[i].record->find(key_of(kind, of, q.figure)))
      map.rows.push_back({q.name, series->means(kCells)});
  return render(map);
}

// Names of the kind's layers are what is left of their names.
std::string layers(const Runs& runs, std::size_t i, const std::string& kind, const std::string& of) {
  HeatMap map = map_of(runs, fmt::format("layers-{}-{}-{}", i, kind, of), whose(runs, i) + of, "stable rank by layer");
  for (const auto& [name, its_kind] : runs[i].record->matrices) {
    const ThinnedSeries* series = its_kind == kind ? runs[i].record->find(key_of(name, of, "stable_rank")) : nullptr;
    if (series != nullptr) map.rows.push_back({std::to_string(map.rows.size()), series->means(kCells)});
  }
  return map.rows.size() > 1 ? render(map) : "";
}

std::string ranks(const Runs& runs, const std::string& kind, const std::string& of) {
  Chart chart{.id = figure_id(fmt::format("ranks-{}-{}", kind, of)),
              .title = of,
              .unit = "stable and effective rank",
              .note = "",
              .height = 130,
              .scale = Chart::Scale::logarithmic,
              .curves = {},
              .marks = {}};
  std::tie(chart.x_low, chart.x_high) = step_range(runs);
  for (std::size_t i = 0; i < runs.size(); ++i)
    for (const bool stable : {true, false}) {
      const std::string word = stable ? "stable" : "effective";
      const ThinnedSeries* series = runs[i].record->find(key_of(kind, of, word + "_rank"));
      const int colour = static_cast<int>(i % 8) + (stable ? 0 : 8);
      const std::string name = runs.size() > 1 ? runs[i].label + ", " + word : word;
      if (series != nullptr) chart.curves.push_back({.name = name, .colour = colour, .points = series->extremes()});
    }
  return render(chart);
}

std::string grid(const std::string& figures) {
  return figures.empty() ? "" : "<div class=\"grid3\">\n" + figures + "</div>\n";
}

std::string kind_panel(const Runs& runs, const std::string& kind) {
  std::string values, curves, depths;
  for (const char* of : kOf) curves += ranks(runs, kind, of);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    for (const char* of : kOf) values += singular_values(runs, i, kind, of);
    for (const char* of : kOf) depths += layers(runs, i, kind, of);
  }
  if (!depths.empty()) depths = "<details><summary>Layers</summary>\n" + grid(depths) + "</details>\n";
  return fmt::format("<h3 class=\"kind\"><code>{}</code></h3>\n", escaped(kind)) + grid(curves) + grid(values) + depths;
}

// Numbers that a kind has beside its spectra: one chart each, a curve for every kind.
std::string relation(const Runs& runs, const std::vector<std::string>& kinds, const std::string& of,
                     const std::string& figure, const std::string& title) {
  Chart chart{
      .id = figure_id(of + "-" + figure), .title = title, .unit = "", .note = "", .height = 150, .curves = {}, .marks = {}};
  std::tie(chart.x_low, chart.x_high) = step_range(runs);
  for (std::size_t i = 0; i < runs.size(); ++i)
    for (std::size_t k = 0; k < kinds.size(); ++k)
      if (const ThinnedSeries* series = runs[i].record->find(key_of(kinds[k], of, figure)))
        chart.curves.push_back({.name = whose(runs, i) + kinds[k],
                                .colour = static_cast<int>(runs.size() > 1 ? i : k),
                                .points = series->extremes()});
  return render(chart);
}

}  // namespace

std::string spectra_section(const Runs& runs) {
  const std::vector<std::string> kinds = kinds_of(runs);
  std::string content;
  for (const std::string& kind : kinds) content += kind_panel(runs, kind);
  const std::string relations = relation(runs, kinds, "alignment", "cosine", "Cosine of momentum and weight") +
                                relation(runs, kinds, "alignment", "gram", "Alignment of their leading directions") +
                                relation(runs, kinds, "feedback", "alpha_to_owner", "Contraction, to owners") +
                                relation(runs, kinds, "feedback", "alpha_to_workers", "Contraction, to workers") +
                                relation(runs, kinds, "feedback", "lag", "Lag of the error feedback") +
                                relation(runs, kinds, "feedback", "gap", "Gap of the weights");
  if (!relations.empty()) content += "<div class=\"grid2\">\n" + relations + "</div>\n";
  return section("spectra", "Spectra", content);
}

}  // namespace muonp::launch
