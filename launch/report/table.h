// An aligned table in a box, for start-up summaries and reports.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muonp::launch {

enum class Align : std::uint8_t { left, right };
enum class BoxStyle : std::uint8_t { ascii, unicode };

// Unicode box characters if the locale in the environment (LC_ALL, LC_CTYPE, LANG) is a UTF-8 one, else
// ASCII.
BoxStyle box_style_of_environment();

// Columns a text takes on a terminal: code points, not bytes.
std::size_t display_width(const std::string& text);

class Table {
 public:
  // Empty titles everywhere: no heading line. Columns without a given alignment are left-aligned.
  explicit Table(std::vector<std::string> titles, std::vector<Align> alignment = {});

  void caption(std::string text) { caption_ = std::move(text); }  // above the headings
  // As many cells as there are columns; a cell may not contain a line break.
  void add(std::vector<std::string> cells);
  void rule();  // a line between the rows before and after it
  std::size_t rows() const;

  // Lines joined by '\n', without a final one.
  std::string render(BoxStyle style) const;
  std::string render() const { return render(box_style_of_environment()); }

 private:
  std::string caption_;
  std::vector<std::string> titles_;
  std::vector<Align> alignment_;
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
};

}  // namespace muonp::launch
