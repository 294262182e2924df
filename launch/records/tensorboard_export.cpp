#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/files/files.h"
#include "launch/records/event_file.h"
#include "launch/records/metric_lines.h"
#include "launch/records/metrics_export.h"

namespace muonp::launch {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 16;

std::string tag_of(std::string key) {
  std::ranges::replace(key, '.', '/');
  return key;
}

double time_of_change(const std::string& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) core::fail("{}: cannot be read", file);
  return static_cast<double>(status.st_mtim.tv_sec) + 1e-9 * static_cast<double>(status.st_mtim.tv_nsec);
}

struct Seen {
  std::int64_t lines = 0;
  double seconds = 0;  // training time of the last line that has it
};
Seen look_through(const std::string& metrics) {
  Seen seen;
  const auto use = [&](const MetricLine& line) {
    if (line.step >= 0) ++seen.lines;
    if (const double* value = line.find("seconds")) seen.seconds = *value;
  };
  MetricLines(metrics).read_on([] {}, use);
  return seen;
}

class EventWriter {
 public:
  EventWriter(core::AtomicFile& file, double start) : file_(file), start_(start) { put(version_event(start_)); }

  void add(const MetricLine& line) {
    std::vector<EventScalar> scalars;
    for (const auto& [key, value] : line.numbers)
      if (key != "step") scalars.push_back({tag_of(key), static_cast<float>(value)});
    if (const double* value = line.find("seconds")) seconds_ = *value;
    if (scalars.empty()) return;
    for (const EventScalar& scalar : scalars) tags_.insert(scalar.tag);
    put(summary_event(start_ + seconds_, static_cast<std::int64_t>(line.step), scalars));
  }
  void flush() {
    file_.write(text_);
    text_.clear();
  }
  std::int64_t records() const { return records_; }
  std::int64_t tags() const { return std::ssize(tags_); }

 private:
  void put(const std::string& event) {
    text_ += framed(event);
    ++records_;
    if (text_.size() > kBuffer) flush();
  }

  core::AtomicFile& file_;
  double start_, seconds_ = 0;
  std::string text_;  // not yet written
  std::int64_t records_ = 0;
  std::set<std::string> tags_;
};

}  // namespace

ExportReport export_tensorboard(const std::string& metrics, const std::string& directory) {
  const Seen seen = look_through(metrics);
  if (seen.lines == 0) core::fail("{}: there is nothing to export yet: no step of the run is in the file", metrics);
  core::make_directories(directory);
  core::AtomicFile file(directory + "/events.out.tfevents.1.muonp");
  EventWriter writer(file, time_of_change(metrics) - seen.seconds);
  const auto use = [&](const MetricLine& line) {
    if (line.step >= 0) writer.add(line);
  };
  MetricLines(metrics).read_on([] {}, use);
  writer.flush();
  file.commit();
  return {file.path(), writer.records(), writer.tags()};
}

}  // namespace muonp::launch
