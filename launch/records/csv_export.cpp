#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "core/base/error.h"
#include "core/files/files.h"
#include "launch/records/metric_lines.h"
#include "launch/records/metrics_export.h"

namespace muonp::launch {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 16;

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string result;
  result.push_back('"');
  for (const char c : text) result.append(c == '"' ? 2 : 1, c);
  result.push_back('"');
  return result;
}

// The shortest decimal that reads back to the same double; a whole number without a point.
std::string cell(double value) {
  if (!std::isfinite(value)) return "nan";
  if (value == std::floor(value) && std::fabs(value) < 1e15) return fmt::format("{:.0f}", value);
  return fmt::format("{}", value);
}

// Calls use(column, text) for each value of a line but its step.
template <class Use>
void for_each_cell(const MetricLine& line, const Use& use) {
  for (const auto& [key, value] : line.numbers)
    if (key != "step") use(key, [&] { return cell(value); });
  for (const auto& [key, text] : line.texts) use(key, [&] { return quoted(text); });
}

class Columns {
 public:
  explicit Columns(const std::string& metrics) : metrics_(metrics) {}
  std::size_t size() const { return names_.size(); }
  std::size_t at(const std::string& name) const {
    const auto found = index_.find(name);
    if (found == index_.end()) core::fail("{}: the run was started again while it was read; export it once more", metrics_);
    return found->second;
  }
  void add(const std::string& name) {
    if (index_.emplace(name, names_.size()).second) names_.push_back(name);
  }
  std::string heading() const {
    std::string text = "step";
    for (const std::string& name : names_) text.append(1, ',').append(quoted(name));
    return text + "\n";
  }

 private:
  const std::string& metrics_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, std::size_t> index_;
};

// The row of one step; written when the next begins.
class Rows {
 public:
  Rows(core::AtomicFile& file, const Columns& columns) : file_(file), columns_(columns), cells_(columns.size()) {}

  void add(const MetricLine& line) {
    if (line.step != step_) end();
    step_ = line.step;
    for_each_cell(line, [&](const std::string& column, const auto& text) { cells_[columns_.at(column)] = text(); });
  }
  void end() {
    if (step_ < 0) return;
    std::string row = cell(step_);
    for (std::string& text : cells_) {
      row.append(1, ',').append(text);
      text.clear();
    }
    text_ += row + "\n";
    if (text_.size() > kBuffer) flush();
    ++rows_;
  }
  void flush() {
    file_.write(text_);
    text_.clear();
  }
  std::int64_t rows() const { return rows_; }

 private:
  core::AtomicFile& file_;
  const Columns& columns_;
  std::vector<std::string> cells_;
  std::string text_;  // not yet written
  double step_ = -1;
  std::int64_t rows_ = 0;
};

}  // namespace

ExportReport export_csv(const std::string& metrics, const std::string& file) {
  // Of a run that is going on, the second reading leaves out what the first did not see.
  std::int64_t seen = 0;
  const auto read = [&](std::int64_t most, const std::function<void(const MetricLine&)>& use) {
    std::int64_t lines = 0;
    MetricLines(metrics).read_on([] {},
                                 [&](const MetricLine& line) {
                                   if (line.step >= 0 && lines < most) ++lines, use(line);
                                 });
    return lines;
  };
  Columns columns(metrics);
  seen = read(std::numeric_limits<std::int64_t>::max(), [&](const MetricLine& line) {
    for_each_cell(line, [&](const std::string& column, const auto&) { columns.add(column); });
  });
  if (seen == 0) core::fail("{}: there is nothing to export yet: no step of the run is in the file", metrics);
  core::AtomicFile out(file);
  out.write(columns.heading());
  Rows rows(out, columns);
  read(seen, [&](const MetricLine& line) { rows.add(line); });
  rows.end();
  rows.flush();
  out.commit();
  return {file, rows.rows(), static_cast<std::int64_t>(columns.size()) + 1};
}

}  // namespace muonp::launch
