#include "launch/records/thinned_series.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

// `b` lies behind `a`.
void join(ThinnedSeries::Column& a, const ThinnedSeries::Column& b) {
  if (b.count > 0) {
    if (a.count == 0 || b.lowest.y < a.lowest.y) a.lowest = b.lowest;
    if (a.count == 0 || b.highest.y > a.highest.y) a.highest = b.highest;
  }
  a.sum += b.sum;
  a.sum_x += b.sum_x;
  a.count += b.count;
  a.gaps += b.gaps;
  if (b.gaps > 0) a.gap_x = b.gap_x;
}

void push_new(std::vector<SeriesPoint>& points, const SeriesPoint& p) {
  const bool same = !points.empty() && points.back().x == p.x &&
                    (points.back().y == p.y || (points.back().y != points.back().y && p.y != p.y));
  if (!same) points.push_back(p);
}

}  // namespace

ThinnedSeries::Column& ThinnedSeries::column_at(double x) {
  while ((x - start_) / width_ >= static_cast<double>(most_)) join_neighbours();
  const auto index = static_cast<std::int64_t>((x - start_) / width_);
  if (columns_.empty() || columns_.back().index != index) columns_.push_back({.index = index, .lowest = {}, .highest = {}});
  return columns_.back();
}

void ThinnedSeries::add(double x, double y) {
  MUONP_ASSERT(std::isfinite(x) && (count_ == 0 || x >= last_.x), "x = {} behind {}", x, last_.x);
  if (count_ == 0) start_ = x;
  if (!std::isfinite(y)) y = NAN;
  last_ = {x, y};
  if (count_++ == 0) first_ = last_;
  Column one{.lowest = last_, .highest = last_, .sum = y, .sum_x = x, .count = 1};
  if (std::isnan(y)) one = {.lowest = {}, .highest = {}, .gaps = 1, .gap_x = x};
  join(column_at(x), one);
}

void ThinnedSeries::join_neighbours() {
  width_ *= 2;
  std::vector<Column> joined;
  for (Column& column : columns_) {
    column.index /= 2;
    if (!joined.empty() && joined.back().index == column.index)
      join(joined.back(), column);
    else
      joined.push_back(column);
  }
  columns_ = std::move(joined);
}

std::vector<SeriesPoint> ThinnedSeries::extremes() const {
  std::vector<SeriesPoint> points;
  if (count_ == 0) return points;
  push_new(points, first_);
  for (const Column& c : columns_) {
    std::vector<SeriesPoint> own;
    if (c.count > 0) own = {c.lowest, c.highest};
    if (c.gaps > 0) own.push_back({c.gap_x, NAN});
    std::ranges::stable_sort(own, {}, &SeriesPoint::x);
    for (const SeriesPoint& p : own) push_new(points, p);
  }
  push_new(points, last_);
  return points;
}

std::vector<SeriesPoint> ThinnedSeries::means(std::size_t wanted) const {
  std::vector<SeriesPoint> points;
  if (columns_.empty()) return points;
  const std::int64_t step = std::max<std::int64_t>(1, (columns_.back().index + 1) / static_cast<std::int64_t>(wanted));
  Column sum;
  const auto close = [&] {
    if (sum.count > 0)
      points.push_back({sum.sum_x / static_cast<double>(sum.count), sum.sum / static_cast<double>(sum.count)});
  };
  for (const Column& c : columns_) {
    if (sum.count + sum.gaps > 0 && c.index / step != sum.index / step) {
      close();
      sum = {};
    }
    sum.index = c.index;
    join(sum, c);
  }
  close();
  return points;
}

}  // namespace muonp::launch
