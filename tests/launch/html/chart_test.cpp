#include "launch/html/chart.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>

#include "launch/html/heat_map.h"

namespace muonp::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

Chart chart_of(std::vector<ChartCurve> curves) {
  return {.id = "loss",
          .title = "Loss",
          .unit = "nats",
          .note = "",
          .height = 200,
          .x_low = 0,
          .x_high = 100,
          .curves = std::move(curves),
          .marks = {}};
}

nlohmann::json points_of(const std::string& figure) {
  const std::string open = "<script type=\"application/json\">";
  const std::size_t begin = figure.find(open) + open.size();
  return nlohmann::json::parse(figure.substr(begin, figure.find("</script>", begin) - begin));
}

// What `expression` captures, each time.
std::vector<std::string> all_of(const std::string& text, const std::string& expression) {
  const std::regex pattern(expression);
  std::vector<std::string> found;
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end; match != end; ++match)
    found.push_back((*match)[1]);
  return found;
}

TEST(ReportChart, ACurveEndsWhereItsLastValueLies) {
  const std::string figure = render(chart_of({{.name = "a", .points = {{0, 4}, {50, 3}, {100, 2.5}}}}));
  // Ticks lie at 2.5 to 4, so that the last value is at the foot, and the first at the top.
  EXPECT_THAT(figure, HasSubstr("d=\"M0.0 0.0L500.0 133.3L1000.0 200.0\""));
  EXPECT_THAT(all_of(figure, "class=\"end[^>]*><b>([^<]*)</b>"), ElementsAre("2.5"));
  EXPECT_THAT(all_of(figure, "class=\"y\"[^>]*>([^<]*)</span>"), ElementsAre("2.5", "3.0", "3.5", "4.0"));
  const auto points = points_of(figure);
  EXPECT_EQ(points.at("low"), 0);
  EXPECT_EQ(points.at("curves").at(0).at("y"), nlohmann::json({4, 3, 2.5}));
  EXPECT_EQ(points.at("curves").at(0).at("x").back(), 100);
}

TEST(ReportChart, NamesAreTextAndNotMarkup) {
  const std::string name = "</script><b a=\"x\">&";
  Chart chart =
      chart_of({{.name = name, .points = {{0, 1}, {1, 2}}}, {.name = "b", .colour = 1, .points = {{0, 1}, {1, 3}}}});
  chart.title = name;
  const std::string figure = render(chart);
  EXPECT_THAT(figure, HasSubstr("<h3>&lt;/script&gt;&lt;b a=&quot;x&quot;&gt;&amp;</h3>"));
  EXPECT_THAT(figure, Not(HasSubstr("<b a=")));
  EXPECT_EQ(all_of(figure, "(</script>)").size(), 1u);
  EXPECT_EQ(points_of(figure).at("curves").at(0).at("name"), name);
}

TEST(ReportChart, WhatIsNotFiniteIsAGapAndSaidSo) {
  const std::string figure = render(chart_of({{.name = "a", .points = {{0, 1}, {1, NAN}, {2, 2}, {3, NAN}}}}));
  EXPECT_EQ(all_of(figure, "class=\"curve[^\"]*\" d=\"(M[^M\"]*M)").size(), 1u);
  EXPECT_THAT(all_of(figure, "class=\"end[^>]*><b>([^<]*)</b>"), ElementsAre("not finite"));
  EXPECT_EQ(points_of(figure).at("curves").at(0).at("y"), nlohmann::json({1, nullptr, 2, nullptr}));
  EXPECT_THAT(render(chart_of({{.name = "a", .points = {{0, NAN}}}})), IsEmpty());
  EXPECT_THAT(render(chart_of({})), IsEmpty());
}

TEST(ReportChart, FewValuesFarAboveDoNotFlattenTheOthers) {
  std::vector<SeriesPoint> points;
  for (int i = 0; i < 100; ++i) points.push_back({double(i), i == 0 ? 1000.0 : 3 + 0.01 * i});
  const std::string figure = render(chart_of({{.name = "a", .points = points}}));
  EXPECT_THAT(figure, HasSubstr("few values lie above the scale; the highest is 1000 at step 0"));
  const std::vector<std::string> ticks = all_of(figure, "class=\"y\"[^>]*>([^<]*)</span>");
  ASSERT_GE(ticks.size(), 3u);
  EXPECT_LT(std::stod(ticks.back()), 5);
  points[0].y = 4.5;
  EXPECT_THAT(render(chart_of({{.name = "a", .points = points}})), Not(HasSubstr("above the scale")));
}

TEST(ReportChart, LogarithmicScalesHavePowersOfTen) {
  Chart chart = chart_of({{.name = "a", .points = {{0, 0.001}, {50, 0}, {100, 100}}}});
  chart.scale = Chart::Scale::logarithmic;
  EXPECT_THAT(all_of(render(chart), "class=\"y\"[^>]*>([^<]*)</span>"),
              ElementsAre("0.001", "0.01", "0.1", "1", "10", "100"));
}

TEST(ReportChart, NamesAtTheEndsDoNotCover) {
  std::vector<ChartCurve> curves;
  for (int i = 0; i < 6; ++i) curves.push_back({.name = "r", .colour = i, .points = {{0, 5}, {100, 1 + 0.001 * i}}});
  const std::vector<std::string> tops = all_of(render(chart_of(curves)), "class=\"end[^>]*top:([0-9.]*)px");
  ASSERT_EQ(tops.size(), 6u);
  for (std::size_t i = 1; i < tops.size(); ++i) EXPECT_GE(std::stod(tops[i]) - std::stod(tops[i - 1]), 16.9);
  EXPECT_LE(std::stod(tops.back()), 200);
  for (int i = 6; i < 40; ++i) curves.push_back({.name = "r", .colour = i, .points = {{0, 5}, {100, 1 + 0.001 * i}}});
  EXPECT_THAT(render(chart_of(curves)), HasSubstr("class=\"legend always\""));
}

TEST(ReportChart, ValuesAreShort) {
  EXPECT_EQ(value_text(3.14159), "3.142");
  EXPECT_EQ(value_text(0), "0");
  EXPECT_EQ(value_text(0.00012345), "1.23e-04");
  EXPECT_EQ(value_text(123456), "123 k");
  EXPECT_EQ(value_text(NAN), "not finite");
}

TEST(ReportHeatMap, CellsHaveTheColoursOfTheirValues) {
  const std::string figure = render(HeatMap{.id = "h",
                                            .title = "<σ>",
                                            .unit = "",
                                            .note = "",
                                            .logarithmic = true,
                                            .x_low = 0,
                                            .x_high = 100,
                                            .rows = {{"largest", {{0, 1}, {50, 1}}}, {"least", {{0, 1e-4}, {50, 1e-2}}}}});
  EXPECT_THAT(figure, HasSubstr("<h3>&lt;σ&gt;</h3>"));
  EXPECT_THAT(figure, HasSubstr("<path class=\"h11\" d=\"M0.0 0h1000.0v18h-1000.0z\"/>"));  // one cell of two
  EXPECT_THAT(figure, HasSubstr("<path class=\"h0\" d=\"M0.0 18h500.0v18h-500.0z\"/>"));
  EXPECT_THAT(figure, HasSubstr("<path class=\"h6\" d=\"M500.0 18h500.0v18h-500.0z\"/>"));
  EXPECT_THAT(render(HeatMap{.id = "h", .title = "t", .unit = "", .note = "", .rows = {{"a", {{0, NAN}}}}}), IsEmpty());
}

TEST(ReportHeatMap, LevelsCoverTheRange) {
  EXPECT_EQ(heat_level(0, 0, 1), 0);
  EXPECT_EQ(heat_level(1, 0, 1), kHeatLevels - 1);
  EXPECT_EQ(heat_level(0.5, 0, 1), kHeatLevels / 2);
  EXPECT_EQ(heat_level(3, 3, 3), 0);
}

}  // namespace
}  // namespace muonp::launch
