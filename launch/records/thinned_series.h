// A curve of any number of points in bounded memory, for drawing: columns of equal width in x, in each of which the lowest
// and the highest point are kept, with their own x. A column is as wide as is needed for all to fit: where it does not, the
// width doubles and neighbours are joined, so that every column is exact at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace muonp::launch {

struct SeriesPoint {
  double x = 0, y = 0;
  bool operator==(const SeriesPoint&) const = default;
};

class ThinnedSeries {
 public:
  struct Column {
    std::int64_t index = 0;       // it covers [start + index·width, start + (index + 1)·width)
    SeriesPoint lowest, highest;  // of the finite values, if there are any
    double sum = 0, sum_x = 0;    // of the finite values, and of their x
    std::int64_t count = 0;       // of them
    std::int64_t gaps = 0;        // values that are not finite
    double gap_x = 0;             // of the last of them
  };

  // At least 2 columns.
  explicit ThinnedSeries(std::size_t most_columns = 1024) : most_(most_columns) {}

  // x finite and not below the x before.
  void add(double x, double y);

  std::int64_t count() const { return count_; }  // of all points
  bool empty() const { return count_ == 0; }
  const SeriesPoint& first() const { return first_; }
  const SeriesPoint& last() const { return last_; }  // its value may be NaN
  const std::vector<Column>& columns() const { return columns_; }
  double width() const { return width_; }

  // Lowest and highest of each column in the order of x, the very first point and the very last. A value that was not finite
  // is a NaN, where a line has a gap. With no more points than columns: all of them.
  std::vector<SeriesPoint> extremes() const;
  // One point for about each `every`-th of all, the mean of x and of y, the gaps left out.
  std::vector<SeriesPoint> means(std::size_t wanted) const;

 private:
  void join_neighbours();
  Column& column_at(double x);

  std::size_t most_;
  double start_ = 0, width_ = 1;
  std::int64_t count_ = 0;
  SeriesPoint first_, last_;
  std::vector<Column> columns_;  // by index; those without points are left out
};

}  // namespace muonp::launch
