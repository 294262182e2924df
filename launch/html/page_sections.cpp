#include "launch/html/page_sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <tuple>

#include "launch/report/markup.h"

namespace muonp::launch {
std::string figure_id(std::string text) {
  for (char& c : text)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '-';
  return text;
}

std::string section(const std::string& id, const std::string& title, const std::string& content) {
  if (content.empty()) return "";
  return fmt::format("<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<h2 id=\"{0}-title\">{1}</h2>\n{2}</section>\n",
                     id, escaped(title), content);
}

std::string render(const PageTable& table) {
  std::string text = fmt::format(
      "<div class=\"frame\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\"><table class=\"{1}\">\n"
      "<caption{2}>{0}</caption>\n<thead><tr>",
      escaped(table.caption), table.text_only ? "texts" : "numbers", table.titled ? " class=\"heard\"" : "");
  for (const std::string& title : table.titles) text += "<th scope=\"col\">" + escaped(title) + "</th>";
  text += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    text += "<tr><th scope=\"row\">" + row.front() + "</th>";
    for (std::size_t i = 1; i < row.size(); ++i) text += "<td>" + row[i] + "</td>";
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

std::string chart_of(const Runs& runs, const KeyChart& what) {
  Chart chart{.id = figure_id(what.key),
              .title = what.title,
              .unit = what.unit,
              .note = "",
              .height = what.height,
              .scale = what.scale,
              .curves = {},
              .marks = {}};
  std::tie(chart.x_low, chart.x_high) = step_range(runs);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const ThinnedSeries* series = runs[i].record->find(what.key);
    if (series == nullptr) continue;
    ChartCurve curve{.name = runs[i].label, .colour = static_cast<int>(i), .points = series->extremes()};
    for (SeriesPoint& p : curve.points) p.y *= what.factor;
    chart.curves.push_back(std::move(curve));
  }
  return render(chart);
}

std::pair<double, double> step_range(const Runs& runs) {
  double low = INFINITY, high = -INFINITY;
  for (const ReportedRun& run : runs)
    for (const auto& [key, series] : run.record->series)
      low = std::min(low, series.first().x), high = std::max(high, series.last().x);
  return {low, std::max(high, low + 1)};
}

std::string run_cell(const Runs& runs, std::size_t i) {
  const std::string name = escaped(runs[i].label);
  return runs.size() == 1 ? name : fmt::format("<span class=\"key s{}\"><i></i>{}</span>", i % 8, name);
}

}  // namespace muonp::launch
