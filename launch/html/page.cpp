#include "launch/html/page.h"

#include <fmt/format.h>

#include <map>

#include "core/base/error.h"
#include "launch/html/page_files.h"
#include "launch/html/page_sections.h"
#include "launch/report/markup.h"

namespace muonp::launch {
namespace {

// Puts each value where the template has {{name}}. What is put in is not looked at again.
std::string filled(std::string_view form, const std::map<std::string, std::string, std::less<>>& values) {
  std::string result;
  for (;;) {
    const std::size_t begin = form.find("{{");
    result += form.substr(0, begin);
    if (begin == std::string_view::npos) return result;
    const std::size_t end = form.find("}}", begin);
    MUONP_ASSERT(end != std::string_view::npos, "the page's template has no end of {}", form.substr(begin, 20));
    const auto value = values.find(form.substr(begin + 2, end - begin - 2));
    MUONP_ASSERT(value != values.end(), "the page's template asks for {}", form.substr(begin, end + 2 - begin));
    result += value->second;
    form.remove_prefix(end + 2);
  }
}

std::string state_text(const ReportedRun& run) {
  const double step = run.record->step, of = run.record->planned_steps;
  const std::string steps = of > 0 ? fmt::format("step {:.0f} of {:.0f}", step, of) : fmt::format("step {:.0f}", step);
  switch (run.state) {
    case RunState::finished:
      return fmt::format("finished, {:.0f} steps", step);
    case RunState::running:
      return "running, " + steps;
    case RunState::stopped:
      break;
  }
  return "stopped at " + steps;
}

std::string title_of(const std::vector<ReportedRun>& runs) {
  return runs.size() == 1 ? runs.front().label : fmt::format("{} runs", runs.size());
}

std::string subtitle_of(const std::vector<ReportedRun>& runs) {
  const auto& start = runs.front().record->start;
  if (runs.size() == 1)
    return escaped(state_text(runs.front()) + (start && !start->model.empty() ? " · " + start->model : ""));
  std::string text;
  for (const ReportedRun& run : runs) text += (text.empty() ? "" : " · ") + escaped(run.label + ": " + state_text(run));
  return text;
}

// Without a script the page loads itself again; with one, not while somebody reads (page.js).
std::string refresh_element(double seconds) {
  if (!(seconds > 0)) return "";
  return fmt::format(
      "<noscript><meta http-equiv=\"refresh\" content=\"{0:.0f}\"></noscript>\n"
      "<meta name=\"refresh-seconds\" content=\"{0:.0f}\">",
      seconds);
}

}  // namespace

RunState state_of(const RunRecord& run, bool held) {
  if (held) return RunState::running;
  return run.planned_steps > 0 && run.step >= run.planned_steps ? RunState::finished : RunState::stopped;
}

void label_runs(std::vector<ReportedRun>& runs) {
  std::map<std::string, int> uses;
  for (const ReportedRun& run : runs) ++uses[run.record->name];
  for (ReportedRun& run : runs) run.label = uses[run.record->name] > 1 ? run.record->folder : run.record->name;
}

std::string render_report(const std::vector<ReportedRun>& runs, const ReportOptions& options) {
  MUONP_ASSERT(!runs.empty(), "a report of no run");
  const std::string sections = summary_section(runs) + loss_section(runs) + difference_section(runs) +
                               optimization_section(runs) + speed_section(runs) + spectra_section(runs) +
                               evaluation_section(runs) + ranks_section(runs) + events_section(runs) + other_section(runs) +
                               settings_section(runs);
  return filled(page_files::html, {{"title", escaped(title_of(runs))},
                                   {"subtitle", subtitle_of(runs)},
                                   {"refresh", refresh_element(options.refresh_seconds)},
                                   {"refreshed", escaped(options.refreshed)},
                                   {"state", options.refresh_seconds > 0 ? "running" : "still"},
                                   {"style", std::string(page_files::css)},
                                   {"sections", sections},
                                   {"script", std::string(page_files::js)}});
}

}  // namespace muonp::launch
