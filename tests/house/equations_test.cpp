// docs/optimizers.md says in which line of the sources each equation of the method is computed. A row that points elsewhere
// than at its words fails, and says where they are now.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>

#include "tests/house/source_tree.h"

namespace muonp::test {
namespace {

struct Row {
  std::string file;
  std::size_t line;
  std::string words;  // that stand in this line
};

std::string text_of(const std::string& path) {
  std::ifstream file(MUONP_SOURCE_FOLDER "/" + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// | equation | [file:line](../file#Lline) | `words` |
std::vector<Row> rows_of(const std::string& table) {
  static const std::regex row(R"re(\| \[([^\]:]+):(\d+)\]\(\.\./([^)#]+)#L(\d+)\) \| `([^`]+)` \|$)re");
  std::vector<Row> rows;
  for (const std::string& line : lines_of(table)) {
    std::smatch match;
    if (!std::regex_search(line, match, row)) continue;
    EXPECT_EQ(match[1], match[3]) << line;
    EXPECT_EQ(match[2], match[4]) << line;
    rows.push_back({match[1], std::stoul(match[2]), match[5]});
  }
  return rows;
}

// Empty where the row is true.
std::string untruth(const Row& row, const std::string& text) {
  const std::vector<std::string> lines = lines_of(text);
  const auto has = [&](std::size_t line) {
    return line >= 1 && line <= lines.size() && lines[line - 1].find(row.words) != std::string::npos;
  };
  if (has(row.line)) return {};
  std::string now = "nowhere";
  for (std::size_t line = lines.size(); line >= 1; --line)
    if (has(line)) now = fmt::format("in line {}", line);
  return fmt::format("{}:{} does not have '{}'; it is {} in that file", row.file, row.line, row.words, now);
}

TEST(Equations, AreWhereTheTableSays) {
  const std::vector<Row> rows = rows_of(text_of("docs/optimizers.md"));
  EXPECT_GE(rows.size(), 12u);
  for (const Row& row : rows) EXPECT_EQ(untruth(row, text_of(row.file)), "");
}

TEST(Equations, ALineThatMovedIsFound) {
  const auto rows = rows_of("| M <- mu M | [a/b.cpp:2](../a/b.cpp#L2) | `m = mu * m` |");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(untruth(rows[0], "x\n  m = mu * m;\n"), "");
  EXPECT_EQ(untruth(rows[0], "x\ny\n  m = mu * m;\n"), "a/b.cpp:2 does not have 'm = mu * m'; it is in line 3 in that file");
}

}  // namespace
}  // namespace muonp::test
