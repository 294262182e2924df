// metrics.jsonl: one JSON object a line, appended as the run goes.
//
// A line of a training step has at least step, loss, lr, grad_norm, seconds and tokens; a line of a
// validation has step and val_loss; the line of a checkpoint that is complete has its step as `checkpoint`. `step` counts
// from 1, `seconds` and `tokens` count from the start of the run, over interruptions.
#pragma once

#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace muonp::launch {

using MetricValue = std::variant<std::int64_t, double, bool, std::string>;
using MetricField = std::pair<std::string_view, MetricValue>;
using MetricFields = std::vector<MetricField>;

// The line: numbers are the shortest decimals that read back to the same double. NaN and infinity, which JSON
// lacks, become null, and "note" says which key had what.
std::string metrics_line(const MetricFields& fields);

class MetricsWriter {
 public:
  // Appends to `path`, creating it. Lines whose step is `first_step` or later, and a last line that was cut
  // off, are removed first, in one atomic replacement of the file. Error if the file cannot be read or
  // written.
  MetricsWriter(const std::string& path, std::int64_t first_step);

  // One line, handed to the operating system before this returns.
  void write(const MetricFields& fields) { write_line(metrics_line(fields)); }
  void write_line(const std::string& object);  // as it is; without a line break

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

// The numbers of one line, null as NaN; keys whose value is neither are left out.
using MetricNumbers = std::map<std::string, double, std::less<>>;

// All lines in order. Error with path:line for a line that is not a JSON object, except a last one without a
// line break, which a killed run leaves behind.
std::vector<MetricNumbers> read_metrics(const std::string& path);

}  // namespace muonp::launch
