#include "launch/html/figure_parts.h"

#include <fmt/format.h>

#include <cmath>

#include "launch/report/markup.h"
#include "launch/report/svg_plot.h"

namespace muonp::launch {
namespace {

// As JSON has it; NaN, which it lacks, is null.
std::string json_number(double value) { return std::isfinite(value) ? fmt::format("{:.7g}", value) : "null"; }

std::string json_text(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const bool plain = static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '&';
    result += plain ? std::string(1, c) : fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
  }
  return fmt::format("\"{}\"", result);
}

std::string json_list(const std::vector<SeriesPoint>& points, double SeriesPoint::*of) {
  std::string list;
  for (const SeriesPoint& p : points) list += fmt::format("{}{}", list.empty() ? "" : ",", json_number(p.*of));
  return fmt::format("[{}]", list);
}

}  // namespace

std::string figure_start(const std::string& id, const std::string& title, const std::string& unit, const std::string& note) {
  std::string text = fmt::format("<figure class=\"chart\" id=\"{}\">\n<figcaption><h3>{}</h3>", escaped(id), escaped(title));
  if (!unit.empty()) text += fmt::format(" <span class=\"unit\">{}</span>", escaped(unit));
  if (!note.empty()) text += fmt::format("<p class=\"note\">{}</p>", escaped(note));
  return text + "</figcaption>\n";
}

std::string step_ticks(double low, double high) {
  std::string text;
  const std::vector<double> ticks = nice_ticks(low, high, 5);
  for (const double tick : ticks)
    if (tick >= low && tick <= high && tick == std::floor(tick))
      text += fmt::format("<span class=\"x\" style=\"left:{:.2f}%\">{}</span>", 100 * (tick - low) / (high - low),
                          escaped(tick_label(tick, ticks[1] - ticks[0])));
  return text + "<span class=\"x axis\">step</span>\n";
}

std::string read_outs(double low, double high, const std::vector<ReadOut>& curves) {
  std::string list;
  for (const ReadOut& curve : curves)
    list += fmt::format("{}{{\"name\":{},\"colour\":{},\"x\":{},\"y\":{}}}", list.empty() ? "" : ",", json_text(curve.name),
                        curve.colour, json_list(*curve.points, &SeriesPoint::x), json_list(*curve.points, &SeriesPoint::y));
  return fmt::format("<script type=\"application/json\">{{\"low\":{},\"high\":{},\"curves\":[{}]}}</script>\n",
                     json_number(low), json_number(high), list);
}

std::string colour_class(int colour) { return fmt::format("s{}{}", colour % kColours, colour >= kColours ? " dashed" : ""); }

}  // namespace muonp::launch
