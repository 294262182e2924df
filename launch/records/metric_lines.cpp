#include "launch/records/metric_lines.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/files/files.h"

namespace muonp::launch {
namespace {

constexpr std::size_t kBlock = std::size_t{1} << 20;
constexpr int kDeepest = 16;  // levels of a line

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// Calls use(offset, text) for each line of [begin, end) that has its line break.
void for_each_line(const std::string& path, std::int64_t begin, std::int64_t end,
                   const std::function<void(std::int64_t, std::string_view)>& use) {
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file || std::fseek(file.get(), begin, SEEK_SET) != 0)
    core::fail("{}: cannot be read: {}", path, std::strerror(errno));
  std::string held;  // from the start of the line at `begin`
  while (begin + std::ssize(held) < end) {
    const std::size_t before = held.size();
    const auto wanted = std::min(kBlock, static_cast<std::size_t>(end - begin) - before);
    held.resize(before + wanted);
    const std::size_t got = std::fread(held.data() + before, 1, wanted, file.get());
    held.resize(before + got);
    std::size_t start = 0;
    for (std::size_t stop; (stop = held.find('\n', std::max(start, before))) != std::string::npos; start = stop + 1)
      use(begin + static_cast<std::int64_t>(start), std::string_view(held).substr(start, stop - start));
    held.erase(0, start);
    begin += static_cast<std::int64_t>(start);
    if (got == 0) return;  // shortened meanwhile
    if (held.size() > MetricLines::kLongest) core::fail("{}: a line is longer than {} bytes", path, MetricLines::kLongest);
  }
}

// Fills a MetricLine from the library's events, which cost no tree.
class LineBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit LineBuilder(MetricLine& line) : line_(line) {}

  bool null() override { return number(std::numeric_limits<double>::quiet_NaN()); }
  bool boolean(bool value) override { return number(value ? 1 : 0); }
  bool number_integer(number_integer_t value) override { return number(static_cast<double>(value)); }
  bool number_unsigned(number_unsigned_t value) override { return number(static_cast<double>(value)); }
  bool number_float(number_float_t value, const string_t&) override { return number(value); }
  bool string(string_t& value) override {
    if (depth_ == 0) return false;
    if (arrays_ == 0) line_.texts.emplace_back(key_, std::move(value));
    return true;
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override {
    if (++depth_ > kDeepest) return false;
    starts_.push_back(prefix_.size());
    if (depth_ > 1) prefix_ = key_ + ".";
    return true;
  }
  bool key(string_t& name) override {
    key_ = prefix_ + name;
    return true;
  }
  bool end_object() override {
    --depth_;
    prefix_.resize(starts_.back());
    starts_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override { return depth_ > 0 && ++arrays_ <= kDeepest; }
  bool end_array() override {
    --arrays_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  bool number(double value) {
    if (depth_ == 0) return false;
    if (arrays_ == 0) line_.numbers.emplace_back(key_, value);
    return true;
  }

  MetricLine& line_;
  std::string key_, prefix_;
  std::vector<std::size_t> starts_;  // lengths of the prefixes outside
  int depth_ = 0, arrays_ = 0;
};

bool parse(std::string_view text, MetricLine& line) {
  line.numbers.clear(), line.texts.clear();
  LineBuilder builder(line);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return false;
  const double* step = line.find("step");
  line.step = step != nullptr ? *step : -1;
  return true;
}

// What the lines of this program begin with is read without a parser. A line that is damaged is named when it is used.
double step_of(std::string_view text) {
  constexpr std::string_view kStart = "{\"step\":";
  double step = -1;
  if (text.starts_with(kStart)) {
    std::from_chars(text.data() + kStart.size(), text.data() + text.size(), step);
    return step;
  }
  MetricLine line;
  return parse(text, line) ? line.step : -1;
}

}  // namespace

const double* MetricLine::find(std::string_view key) const {
  for (const auto& [name, value] : numbers)
    if (name == key) return &value;
  return nullptr;
}

std::vector<MetricLines::Restart> MetricLines::find_restarts(std::int64_t end) {
  std::vector<Restart> restarts;
  for_each_line(path_, offset_, end, [&](std::int64_t offset, std::string_view text) {
    const double step = step_of(text);
    if (step < 0) return;
    const bool training = text.find("\"loss\":") != std::string_view::npos;
    if (step < last_step_ || (training && step == last_training_step_)) restarts.push_back({offset, step});
    last_step_ = step;
    if (training) last_training_step_ = step;
  });
  return restarts;
}

void MetricLines::read_on(const std::function<void()>& forget, const std::function<void(const MetricLine&)>& use) {
  const std::int64_t end = core::exists(path_) ? core::file_size(path_) : 0;
  const double given = last_step_;
  std::vector<Restart> restarts;
  if (end >= offset_ && end > 0) restarts = find_restarts(end);
  const bool void_before = std::ranges::any_of(restarts, [&](const Restart& r) { return r.step <= given; });
  if (end < offset_ || (void_before && offset_ > 0)) {
    forget();
    *this = MetricLines(std::move(path_));
    return read_on(forget, use);
  }
  if (end == 0) return;
  // The smallest step of all restarts from the i-th on is what still bounds the lines before it.
  for (std::size_t i = restarts.size(); i-- > 1;) restarts[i - 1].step = std::min(restarts[i - 1].step, restarts[i].step);
  std::size_t next = 0;
  MetricLine line;
  for_each_line(path_, offset_, end, [&](std::int64_t offset, std::string_view text) {
    if (!parse(text, line))
      core::fail("{}:{}: not a JSON object; the file is damaged, move it away to start a new one", path_, lines_ + 1);
    ++lines_;
    offset_ = offset + std::ssize(text) + 1;
    while (next < restarts.size() && restarts[next].offset <= offset) ++next;
    if (next == restarts.size() || line.step < restarts[next].step) use(line);
  });
}

}  // namespace muonp::launch
