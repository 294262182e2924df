#include "launch/report/svg_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(NiceTicks, AreRoundAndCoverTheRange) {
  EXPECT_THAT(nice_ticks(0, 100, 5), ElementsAre(0, 20, 40, 60, 80, 100));
  EXPECT_THAT(nice_ticks(0.5, 1.9, 3), ElementsAre(0.5, 1, 1.5, 2));
  for (const auto& [low, high] :
       {std::pair{2.871, 2.895}, {-3.0, 7.0}, {1e-9, 3e-9}, {0.0, 12345.0}, {5.0, 5.0}, {0.0, 0.0}}) {
    const auto ticks = nice_ticks(low, high, 7);
    EXPECT_GE(ticks.size(), 3u);
    EXPECT_LE(ticks.size(), 13u);
    EXPECT_LE(ticks.front(), low + 1e-12);
    EXPECT_GE(ticks.back(), high - 1e-12);
  }
}

std::size_t count(const std::string& text, const std::string& piece) {
  std::size_t n = 0;
  for (std::size_t at = text.find(piece); at != std::string::npos; at = text.find(piece, at + piece.size())) ++n;
  return n;
}

TEST(SvgPlot, DrawsEverySeriesInItsColour) {
  const Plot plot{
      "Loss", "", "steps", "loss", {{"a", "3.1", {{0, 4}, {10, 3}}, {{0, 5}, {10, 3}}}, {"b", "", {{0, 5}, {10, 4}}, {}}}};
  const std::string svg = render_svg(plot);
  EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
  EXPECT_EQ(count(svg, "stroke=\"#0072B2\""), 3u);  // light line, strong line, legend
  EXPECT_EQ(count(svg, "stroke=\"#D55E00\""), 2u);
  EXPECT_EQ(count(svg, "<circle"), 4u);
  EXPECT_THAT(svg, HasSubstr(">Loss</text>"));
}

TEST(SvgPlot, IsAsHighAsItsLegendNeeds) {
  const auto height = [](int count) {
    Plot plot{"t", "", "x", "y", {}};
    for (int i = 0; i < count; ++i) plot.series.push_back({fmt::format("series {}", i), "", {{0, 1}, {1, 2.0 + i}}, {}});
    const std::string svg = render_svg(plot);
    const std::size_t at = svg.find("height=\"") + 8;
    const std::size_t last = svg.rfind(fmt::format(">series {}<", count - 1)), y = svg.rfind(" y=\"", last) + 4;
    const double whole = std::stod(svg.substr(at));
    EXPECT_LT(std::stod(svg.substr(y)) + 5, whole) << count;  // with room for what hangs below the line
    return whole;
  };
  EXPECT_EQ(height(2), 540);
  EXPECT_EQ(height(20), 540);
  EXPECT_GT(height(22), 540);
  EXPECT_GT(height(50), 1100);
}

TEST(SvgPlot, EscapesNames) {
  const std::string svg = render_svg({"<T> & \"x\"", "", "x", "y", {{"a<b", "", {{0, 1}, {1, 2}}, {}}}});
  EXPECT_THAT(svg, HasSubstr("&lt;T&gt; &amp; &quot;x&quot;"));
  EXPECT_THAT(svg, HasSubstr("a&lt;b"));
  EXPECT_THAT(svg, Not(HasSubstr("a<b")));
}

TEST(SvgPlot, LeavesOutWhatIsNotFinite) {
  const std::string svg = render_svg({"t", "", "x", "y", {{"a", "", {{0, 1}, {1, NAN}, {2, INFINITY}, {3, 2}}, {}}}});
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
  EXPECT_EQ(count(svg, "<circle"), 2u);
}

TEST(SvgPlot, ALineHasAGapWhereItIsNotFinite) {
  const std::string svg =
      render_svg({"t", "", "x", "y", {{"a", "", {{0, 1}, {1, 2}, {2, NAN}, {3, -INFINITY}, {4, 2}, {5, 3}}, {}}}});
  const std::size_t path = svg.find("<path d=\"M", svg.find("clip-path"));
  const std::string line = svg.substr(path, svg.find("/>", path) - path);
  EXPECT_EQ(count(line, "M"), 2u);
  EXPECT_EQ(count(line, "L"), 2u);
}

TEST(SvgPlot, ASeriesWithoutAValueStandsInTheLegend) {
  const PlotSeries one{"a", "", {{0, 1}, {1, 2}}, {}}, never{"b", "not finite", {{0, NAN}}, {{0, NAN}}};
  const std::string svg = render_svg({"t", "", "x", "y", {one, never, {"c", "no value yet", {}, {}}}});
  EXPECT_THAT(svg, HasSubstr(">b<tspan"));
  EXPECT_THAT(svg, HasSubstr(">no value yet</tspan>"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(SvgPlot, AHighStartOfALightLineDoesNotFlattenTheRest) {
  const std::string svg = render_svg({"t", "", "x", "y", {{"a", "", {{1, 2}, {2, 1}}, {{0, 90}, {1, 2}, {2, 0.6}}}}});
  EXPECT_THAT(svg, HasSubstr(">2.0</text>"));
  EXPECT_THAT(svg, HasSubstr(">0.6</text>"));  // the lowest point is in the picture
  EXPECT_THAT(svg, Not(HasSubstr(">80</text>")));
}

TEST(SvgPlot, OnePointIsDrawn) {
  const std::string svg = render_svg({"t", "", "x", "y", {{"a", "", {{5, 1}}, {}}}});
  EXPECT_EQ(count(svg, "<circle"), 1u);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(SvgPlot, LongCurvesAreAveraged) {
  std::vector<PlotPoint> light;
  for (int i = 0; i < 100000; ++i) light.push_back({double(i), std::sin(i)});
  EXPECT_LT(render_svg({"t", "", "x", "y", {{"a", "", {}, light}}}).size(), 20000u);
}

TEST(SvgPlot, BarsStandAroundTheirPointsAndInThePicture) {
  const std::string svg = render_svg({"t", "", "x", "y", {{"a", "", {{1, 2, 0.5}, {2, 3}}, {}, {{2, 3, 1}}}}});
  EXPECT_EQ(count(svg, "stroke-width=\"1.4\""), 2u) << "a bar of no length is none";
  EXPECT_EQ(count(svg, "r=\"5\" fill=\"#ffffff\""), 1u);
  EXPECT_THAT(svg, HasSubstr(">4.0</text>"));
  EXPECT_THAT(svg, HasSubstr(">1.5</text>"));
}

TEST(SvgPlot, WhatHasNoValueIsACrossAtTheTop) {
  const PlotSeries a{"a", "", {{1, 2}, {10, 3}}, {}, {}, {0, 100}};
  const std::string svg =
      render_svg({.title = "t", .subtitle = "", .x_label = "x", .y_label = "y", .series = {a}, .log_x = true});
  EXPECT_EQ(count(svg, "<path d=\"M"), 3u);  // axes, line, one cross: 0 has no logarithm
  EXPECT_THAT(svg, HasSubstr(">100</text>"));
}

TEST(SvgPlot, WhatLiesAboveTheTopLeavesThePicture) {
  const PlotSeries a{"a", "", {{1, 2}, {2, 3}, {3, 900}}, {}};
  const std::string svg =
      render_svg({.title = "t", .subtitle = "", .x_label = "x", .y_label = "y", .series = {a}, .y_top = 4});
  EXPECT_THAT(svg, HasSubstr(">4.0</text>"));
  EXPECT_THAT(svg, Not(HasSubstr(">900</text>")));
}

TEST(SvgPlot, NamesStandOnTheAxis) {
  const std::string svg = render_svg({.title = "t",
                                      .subtitle = "",
                                      .x_label = "",
                                      .y_label = "y",
                                      .series = {{"a", "", {}, {}, {{1, 2}, {2, 3}}}},
                                      .x_names = {"one", "<two>"}});
  EXPECT_THAT(svg, HasSubstr(">one</text>"));
  EXPECT_THAT(svg, HasSubstr(">&lt;two&gt;</text>"));
  EXPECT_THAT(svg, Not(HasSubstr(">1.5</text>")));
}

TEST(SvgPlot, NothingToDrawIsAnError) {
  EXPECT_THROW(render_svg({"t", "", "x", "y", {{"a", "", {{0, NAN}}, {}}}}), core::Error);
  EXPECT_THROW(render_svg({"t", "", "x", "y", {}}), core::Error);
}

}  // namespace
}  // namespace muonp::launch
