// metrics.jsonl (launch/train/metrics.h) line by line, in memory that does not depend on the file's size, and read on while
// a run appends to it.
//
// A run that crashed may have written steps that were trained again after it was resumed: of these only the last lines
// count. Where `step` goes back to s, or a training line has the step of the one before, all lines before it with step ≥ s
// are left out, as if the run had never written them. A last line without a line break, cut off by a crash or still being
// written, is left for the next reading.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace muonp::launch {

// Names in nested objects are joined by points: {"a": {"b": 1}} has the number a.b. Lists are left out.
struct MetricLine {
  double step = -1;                                     // -1: the line has none
  std::vector<std::pair<std::string, double>> numbers;  // with step; null is NaN, true 1, false 0
  std::vector<std::pair<std::string, std::string>> texts;

  const double* find(std::string_view key) const;
};

class MetricLines {
 public:
  // The file need not exist yet: a run that has just started has written nothing. Error if it is no regular file.
  explicit MetricLines(std::string path) : path_(std::move(path)) {}

  // Gives `use` the lines that have come since the last call, in order. Where lines that were given before do not count any
  // more, or the file is another one, calls `forget` first and then gives all lines. Error with path:line for a line that
  // is not a JSON object, or longer than kLongest.
  void read_on(const std::function<void()>& forget, const std::function<void(const MetricLine&)>& use);

  static constexpr std::size_t kLongest = std::size_t{64} << 20;

 private:
  struct Restart {
    std::int64_t offset = 0;  // of the line that goes back
    double step = 0;
  };
  std::vector<Restart> find_restarts(std::int64_t end);

  std::string path_;
  std::int64_t offset_ = 0, lines_ = 0;              // read so far
  double last_step_ = -1, last_training_step_ = -1;  // of these
};

}  // namespace muonp::launch
