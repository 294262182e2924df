#include "launch/report/table.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

struct Box {  // corners and crossings from left to right, for the top, a rule and the bottom
  const char *horizontal, *vertical;
  const char *top_left, *top_cross, *top_right;
  const char *left, *cross, *right;
  const char *bottom_left, *bottom_cross, *bottom_right;
};
constexpr Box kAscii = {"-", "|", "+", "+", "+", "+", "+", "+", "+", "+", "+"};
constexpr Box kUnicode = {"─", "│", "┌", "┬", "┐", "├", "┼", "┤", "└", "┴", "┘"};

std::string repeated(const char* piece, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += piece;
  return text;
}

std::string rule_line(const Box& box, const std::vector<std::size_t>& widths, const char* left, const char* cross,
                      const char* right) {
  std::string line = left;
  for (std::size_t c = 0; c < widths.size(); ++c) {
    if (c > 0) line += cross;
    line += repeated(box.horizontal, widths[c] + 2);
  }
  return line + right;
}

std::string padded(const std::string& text, std::size_t width, Align align) {
  const std::string space(width - std::min(width, display_width(text)), ' ');
  return align == Align::left ? text + space : space + text;
}

std::string cell_line(const Box& box, const std::vector<std::size_t>& widths, const std::vector<Align>& alignment,
                      const std::vector<std::string>& cells) {
  std::string line = box.vertical;
  for (std::size_t c = 0; c < cells.size(); ++c)
    line += fmt::format(" {} {}", padded(cells[c], widths[c], alignment[c]), box.vertical);
  return line;
}

}  // namespace

BoxStyle box_style_of_environment() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    std::string lower(value);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c | 32 : c; });
    const bool utf8 = lower.find("utf-8") != std::string::npos || lower.find("utf8") != std::string::npos;
    return utf8 ? BoxStyle::unicode : BoxStyle::ascii;
  }
  return BoxStyle::ascii;
}

std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

Table::Table(std::vector<std::string> titles, std::vector<Align> alignment)
    : titles_(std::move(titles)), alignment_(std::move(alignment)) {
  MUONP_ASSERT(!titles_.empty() && alignment_.size() <= titles_.size(), "{} columns, {} alignments", titles_.size(),
               alignment_.size());
  alignment_.resize(titles_.size(), Align::left);
}

void Table::add(std::vector<std::string> cells) {
  MUONP_ASSERT(cells.size() == titles_.size(), "{} cells in a table of {} columns", cells.size(), titles_.size());
  rows_.push_back(std::move(cells));
}

void Table::rule() { rows_.emplace_back(); }

std::size_t Table::rows() const {
  return static_cast<std::size_t>(std::count_if(rows_.begin(), rows_.end(), [](const auto& row) { return !row.empty(); }));
}

std::string Table::render(BoxStyle style) const {
  const Box& box = style == BoxStyle::unicode ? kUnicode : kAscii;
  std::vector<std::size_t> widths(titles_.size());
  for (std::size_t c = 0; c < widths.size(); ++c) widths[c] = display_width(titles_[c]);
  for (const auto& row : rows_)
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], display_width(row[c]));
  std::size_t inner = 3 * widths.size() - 1;
  for (const std::size_t width : widths) inner += width;
  if (!caption_.empty() && display_width(caption_) + 2 > inner) {
    widths.back() += display_width(caption_) + 2 - inner;
    inner = display_width(caption_) + 2;
  }

  std::string text;
  const auto line = [&text](const std::string& content) {
    if (!text.empty()) text += '\n';
    text += content;
  };
  if (!caption_.empty()) {
    line(fmt::format("{}{}{}", box.top_left, repeated(box.horizontal, inner), box.top_right));
    line(fmt::format("{0} {1} {0}", box.vertical, padded(caption_, inner - 2, Align::left)));
    line(rule_line(box, widths, box.left, box.top_cross, box.right));
  } else {
    line(rule_line(box, widths, box.top_left, box.top_cross, box.top_right));
  }
  const bool headed = std::any_of(titles_.begin(), titles_.end(), [](const std::string& t) { return !t.empty(); });
  if (headed) {
    line(cell_line(box, widths, alignment_, titles_));
    line(rule_line(box, widths, box.left, box.cross, box.right));
  }
  for (const auto& row : rows_)
    line(row.empty() ? rule_line(box, widths, box.left, box.cross, box.right) : cell_line(box, widths, alignment_, row));
  line(rule_line(box, widths, box.bottom_left, box.bottom_cross, box.bottom_right));
  return text;
}

}  // namespace muonp::launch
