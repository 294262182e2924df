#include "launch/records/thinned_series.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

namespace muonp::launch {
namespace {

using ::testing::ElementsAre;

std::vector<SeriesPoint> noisy(std::int64_t count) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> noise;
  std::vector<SeriesPoint> points;
  for (std::int64_t i = 1; i <= count; ++i) points.push_back({static_cast<double>(i), 3 + noise(random)});
  return points;
}

ThinnedSeries series_of(const std::vector<SeriesPoint>& points, std::size_t columns) {
  ThinnedSeries series(columns);
  for (const SeriesPoint& p : points) series.add(p.x, p.y);
  return series;
}

TEST(ThinnedSeries, FewPointsStayAsTheyAre) {
  const std::vector<SeriesPoint> points = noisy(1024);
  EXPECT_EQ(series_of(points, 1024).extremes(), points);
}

TEST(ThinnedSeries, KeepsTheExtremesOfEachColumn) {
  const std::vector<SeriesPoint> points = noisy(100'003);
  const ThinnedSeries series = series_of(points, 512);
  EXPECT_LE(series.columns().size(), 512u);
  EXPECT_GE(series.columns().size(), 256u);
  std::map<std::int64_t, std::pair<SeriesPoint, SeriesPoint>> wanted;
  for (const SeriesPoint& p : points) {
    const auto column = static_cast<std::int64_t>((p.x - 1) / series.width());
    auto& [low, high] = wanted.try_emplace(column, p, p).first->second;
    if (p.y < low.y) low = p;
    if (p.y > high.y) high = p;
  }
  ASSERT_EQ(series.columns().size(), wanted.size());
  std::int64_t all = 0;
  for (const ThinnedSeries::Column& c : series.columns()) {
    EXPECT_EQ(c.lowest, wanted.at(c.index).first);
    EXPECT_EQ(c.highest, wanted.at(c.index).second);
    all += c.count;
  }
  EXPECT_EQ(all, 100'003);
}

TEST(ThinnedSeries, TheFirstAndTheLastPointAreThere) {
  const std::vector<SeriesPoint> points = noisy(50'000);
  const ThinnedSeries series = series_of(points, 100);
  EXPECT_EQ(series.extremes().front(), points.front());
  EXPECT_EQ(series.extremes().back(), points.back());
  EXPECT_EQ(series.last(), points.back());
  EXPECT_LE(series.extremes().size(), 202u);
  const auto drawn = series.extremes();
  EXPECT_TRUE(std::ranges::is_sorted(drawn, {}, &SeriesPoint::x));
}

TEST(ThinnedSeries, MeansAreThoseOfTheirColumns) {
  ThinnedSeries series(64);
  for (int i = 0; i < 64; ++i) series.add(i, i);
  EXPECT_THAT(series.means(2), ElementsAre(SeriesPoint{15.5, 15.5}, SeriesPoint{47.5, 47.5}));
  EXPECT_EQ(series.means(1000).size(), 64u);
}

TEST(ThinnedSeries, WhatIsNotFiniteIsAGap) {
  ThinnedSeries series(16);
  series.add(1, 5);
  series.add(2, std::numeric_limits<double>::infinity());
  series.add(3, 4);
  const auto points = series.extremes();
  ASSERT_EQ(points.size(), 3u);
  EXPECT_TRUE(std::isnan(points[1].y));
  EXPECT_EQ(points[2], (SeriesPoint{3, 4}));
  series.add(4, NAN);
  EXPECT_TRUE(std::isnan(series.last().y));
  EXPECT_EQ(series.means(100).size(), 2u);
}

TEST(ThinnedSeries, GapsSurviveThinning) {
  ThinnedSeries series(8);
  for (int i = 0; i < 1000; ++i) series.add(i, i == 500 ? NAN : 1.0);
  int gaps = 0;
  for (const SeriesPoint& p : series.extremes()) gaps += std::isnan(p.y);
  EXPECT_EQ(gaps, 1);
}

TEST(ThinnedSeries, RarePointsFarApartStayFew) {
  ThinnedSeries series(100);
  for (int i = 0; i < 300; ++i) series.add(1e6 * i, i);
  EXPECT_LE(series.columns().size(), 100u);
  EXPECT_EQ(series.count(), 300);
}

}  // namespace
}  // namespace muonp::launch
