#include "launch/train/metrics.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/units.h"
#include "core/files/files.h"

namespace muonp::launch {
namespace {

using Json = nlohmann::ordered_json;

// A pipe or a device has no end to look for.
std::string read_regular_file(const std::string& path) {
  core::file_size(path);
  return core::read_file(path);
}

// Calls use(number, text) for each complete line, and returns whether the text ends in a line break.
template <class Use>
bool for_each_line(const std::string& content, const Use& use) {
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = content.find('\n', begin);
    if (end == std::string::npos) return false;
    use(++number, std::string_view(content).substr(begin, end - begin));
    begin = end + 1;
  }
  return true;
}

Json parse_line(const std::string& path, std::int64_t number, std::string_view line) {
  Json object = Json::parse(line, nullptr, false);
  if (!object.is_object())
    core::fail("{}:{}: not a JSON object; the file is damaged, move it away to start a new one", path, number);
  return object;
}

// The file without what a run that starts at `first_step` writes again; the second is whether anything was
// removed.
std::pair<std::string, bool> kept_lines(const std::string& path, std::int64_t first_step) {
  std::string kept;
  const std::string content = read_regular_file(path);
  for_each_line(content, [&](std::int64_t number, std::string_view line) {
    const Json object = parse_line(path, number, line);
    const auto step = object.find("step");
    const bool again = step != object.end() && step->is_number() && step->get<double>() >= static_cast<double>(first_step);
    if (!again) kept.append(line).push_back('\n');
  });
  const bool changed = kept.size() != content.size();
  return {std::move(kept), changed};
}

}  // namespace

std::string metrics_line(const MetricFields& fields) {
  Json object = Json::object();
  std::string note;
  for (const auto& [key, value] : fields) {
    const double* real = std::get_if<double>(&value);
    if (real != nullptr && !std::isfinite(*real)) {
      note += fmt::format("{}{} is {}", note.empty() ? "" : "; ", key, core::plain_nan(*real));
      object[std::string(key)] = nullptr;
    } else {
      std::visit([&](const auto& v) { object[std::string(key)] = v; }, value);
    }
  }
  if (!note.empty()) object["note"] = note;
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

MetricsWriter::MetricsWriter(const std::string& path, std::int64_t first_step) : path_(path) {
  if (core::exists(path)) {
    const auto [kept, changed] = kept_lines(path, first_step);
    if (changed) core::write_file(path, kept);
  }
  file_.reset(std::fopen(path.c_str(), "ab"));
  if (!file_) core::fail("{}: cannot be opened for writing: {}", path, std::strerror(errno));
}

void MetricsWriter::write_line(const std::string& object) {
  const std::string line = object + "\n";
  const bool written = std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size();
  if (!written || std::fflush(file_.get()) != 0) core::fail("{}: cannot be written: {}", path_, std::strerror(errno));
}

std::vector<MetricNumbers> read_metrics(const std::string& path) {
  std::vector<MetricNumbers> lines;
  for_each_line(read_regular_file(path), [&](std::int64_t number, std::string_view line) {
    MetricNumbers numbers;
    const Json object = parse_line(path, number, line);
    for (const auto& [key, value] : object.items())
      if (value.is_number() || value.is_null())
        numbers.emplace(key, value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
    lines.push_back(std::move(numbers));
  });
  return lines;
}

}  // namespace muonp::launch
