// What a reader wants first: how far the runs are, how good, how fast; and in which settings they differ.
#include <fmt/format.h>

#include <cmath>

#include "core/base/units.h"
#include "launch/html/page_sections.h"
#include "launch/report/markup.h"

namespace muonp::launch {
namespace {

struct Figure {
  std::string title, value, note;
};

std::string loss_text(double value) { return std::isfinite(value) ? fmt::format("{:.4f}", value) : "not finite"; }

Figure validation_figure(const RunRecord& run) {
  const ThinnedSeries* series = run.find("val_loss");
  return {"validation loss", series != nullptr ? loss_text(series->last().y) : "–",
          series != nullptr ? fmt::format("at step {:.0f}", series->last().x) : "not validated"};
}

Figure best_figure(const RunRecord& run) {
  if (!run.best_validation) return {"best validation loss", "–", ""};
  return {"best validation loss", loss_text(run.best_validation->y), fmt::format("at step {:.0f}", run.best_validation->x)};
}

Figure training_figure(const RunRecord& run) {
  const std::size_t count = run.recent_loss.count();
  return {"training loss", count > 0 ? loss_text(run.recent_loss.value()) : "–",
          count > 0 ? fmt::format("mean of the last {}", count) : ""};
}

Figure steps_figure(const RunRecord& run) {
  return {"steps", fmt::format("{:.0f}", run.step),
          run.planned_steps > 0 ? fmt::format("of {:.0f}", run.planned_steps) : ""};
}

Figure rate_figure(const RunRecord& run) {
  const bool known = run.tokens > 0 && run.seconds > 0;
  return {"tokens/s", known ? core::format_count(run.tokens / run.seconds) : "–", "mean of the run"};
}

Figure sent_figure(const RunRecord& run) {
  const bool known = run.find("sent_bytes") != nullptr;
  return {"sent per rank", known ? core::format_bytes(static_cast<std::int64_t>(run.sent_bytes)) : "–", "in training steps"};
}

Figure memory_figure(const RunRecord& run) {
  const ThinnedSeries* measured = run.find("memory_bytes");
  const auto bytes = [](double value) { return core::format_bytes(static_cast<std::int64_t>(value)); };
  const double planned = run.start && run.start->world_size() > 0 ? static_cast<double>(run.start->peak_bytes(0)) : NAN;
  const std::string plan = std::isfinite(planned) ? "planned " + bytes(planned) : "";
  if (measured == nullptr) return {"memory, rank 0", std::isfinite(planned) ? bytes(planned) : "–", "planned"};
  return {"memory, rank 0", bytes(measured->last().y), plan};
}

std::vector<Figure> figures_of(const RunRecord& run) {
  return {validation_figure(run),
          best_figure(run),
          training_figure(run),
          steps_figure(run),
          {"training time", run.seconds > 0 ? core::format_duration(run.seconds) : "–",
           run.tokens > 0 ? core::format_count(run.tokens) + " tokens" : ""},
          rate_figure(run),
          sent_figure(run),
          memory_figure(run)};
}

std::string as_list(const std::vector<Figure>& figures) {
  std::string text = "<dl class=\"figures\">\n";
  for (const Figure& f : figures)
    text += fmt::format("<div><dt>{}</dt><dd><b>{}</b><span>{}</span></dd></div>\n", escaped(f.title), escaped(f.value),
                        escaped(f.note));
  return text + "</dl>\n";
}

std::string as_table(const Runs& runs) {
  PageTable table{.caption = "Runs", .titles = {"run"}, .rows = {}, .titled = true};
  for (const Figure& f : figures_of(*runs.front().record)) table.titles.push_back(f.title);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    std::vector<std::string> row = {run_cell(runs, i)};
    for (const Figure& f : figures_of(*runs[i].record)) row.push_back(escaped(f.value));
    table.rows.push_back(std::move(row));
  }
  return render(table);
}

std::vector<Settings> settings_of(const Runs& runs) {
  std::vector<Settings> all;
  for (const ReportedRun& run : runs) all.push_back(run.record->settings);
  return all;
}

}  // namespace

std::string summary_section(const Runs& runs) {
  return section("summary", "Summary", runs.size() == 1 ? as_list(figures_of(*runs.front().record)) : as_table(runs));
}

std::string difference_section(const Runs& runs) {
  if (runs.size() < 2) return "";
  const std::vector<SettingRow> rows = differing_settings(settings_of(runs));
  if (rows.empty()) return section("differences", "Settings that differ", "<p>None: the runs have the same settings.</p>\n");
  PageTable table{.caption = "Settings that differ", .titles = {"setting"}, .rows = {}, .titled = true, .text_only = true};
  for (const ReportedRun& run : runs) table.titles.push_back(run.label);
  for (const SettingRow& row : rows) {
    table.rows.push_back({"<code>" + escaped(row.key) + "</code>"});
    for (const std::string& value : row.values) table.rows.back().push_back(escaped(value));
  }
  return section("differences", "Settings that differ", render(table));
}

std::string settings_section(const Runs& runs) {
  const Settings& first = runs.front().record->settings;
  Settings same = first;
  for (const SettingRow& row : differing_settings(settings_of(runs))) same.erase(row.key);
  if (runs.size() > 1) same.erase("run.name"), same.erase("run.dir");
  if (same.empty()) return "";
  PageTable table{.caption = "Settings", .titles = {"setting", "value"}, .rows = {}, .titled = true, .text_only = true};
  for (const auto& [key, value] : same) table.rows.push_back({"<code>" + escaped(key) + "</code>", escaped(value)});
  const std::string title = runs.size() == 1 ? "Settings" : "Settings that are the same";
  return section("settings", title,
                 fmt::format("<details><summary>{} settings</summary>\n{}</details>\n", same.size(), render(table)));
}

}  // namespace muonp::launch
