#include "launch/report/table.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

Table sample() {
  Table table({"name", "bytes"}, {Align::left, Align::right});
  table.add({"weights", "12"});
  table.rule();
  table.add({"σ ≥ ε", "3456"});
  return table;
}

TEST(Table, AlignsColumnsInAscii) {
  EXPECT_EQ(sample().render(BoxStyle::ascii),
            "+---------+-------+\n"
            "| name    | bytes |\n"
            "+---------+-------+\n"
            "| weights |    12 |\n"
            "+---------+-------+\n"
            "| σ ≥ ε   |  3456 |\n"
            "+---------+-------+");
}

TEST(Table, DrawsUnicodeBoxes) {
  EXPECT_EQ(sample().render(BoxStyle::unicode),
            "┌─────────┬───────┐\n"
            "│ name    │ bytes │\n"
            "├─────────┼───────┤\n"
            "│ weights │    12 │\n"
            "├─────────┼───────┤\n"
            "│ σ ≥ ε   │  3456 │\n"
            "└─────────┴───────┘");
}

TEST(Table, CaptionWidensTheLastColumn) {
  Table table({"", ""});
  table.caption("a long caption");
  table.add({"a", "b"});
  EXPECT_EQ(table.render(BoxStyle::ascii),
            "+----------------+\n"
            "| a long caption |\n"
            "+---+------------+\n"
            "| a | b          |\n"
            "+---+------------+");
}

TEST(Table, RefusesRowsOfAnotherLength) {
  Table table({"a", "b"});
  EXPECT_THROW(table.add({"1"}), core::InternalError);
  EXPECT_EQ(table.rows(), 0u);
}

class Locale : public ::testing::Test {
 protected:
  static void set(const char* all, const char* ctype, const char* lang) {
    setenv("LC_ALL", all, 1);
    setenv("LC_CTYPE", ctype, 1);
    setenv("LANG", lang, 1);
  }
  void TearDown() override {
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) unsetenv(name);
  }
};

TEST_F(Locale, DecidesTheBoxStyle) {
  set("", "", "en_US.UTF-8");
  EXPECT_EQ(box_style_of_environment(), BoxStyle::unicode);
  set("C", "", "en_US.UTF-8");  // LC_ALL overrides LANG
  EXPECT_EQ(box_style_of_environment(), BoxStyle::ascii);
  set("", "C.utf8", "C");
  EXPECT_EQ(box_style_of_environment(), BoxStyle::unicode);
  set("", "", "");
  EXPECT_EQ(box_style_of_environment(), BoxStyle::ascii);
}

}  // namespace
}  // namespace muonp::launch
