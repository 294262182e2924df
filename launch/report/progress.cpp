#include "launch/report/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string_view>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/units.h"
#include "launch/report/table.h"

namespace muonp::launch {
namespace {

constexpr int kNarrowest = 20;  // columns of the bar itself

// The first `width` code points.
std::string cut(const std::string& text, std::size_t width) {
  std::size_t bytes = 0, points = 0;
  while (bytes < text.size()) {
    const bool starts = (static_cast<unsigned char>(text[bytes]) & 0xc0) != 0x80;
    if (starts && points == width) break;
    points += starts;
    ++bytes;
  }
  return text.substr(0, bytes);
}

}  // namespace

ProgressOptions progress_options_for(std::FILE* out) {
  ProgressOptions options;
  options.out = out;
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  options.terminal = isatty(fileno(out)) != 0 && !dumb;
  options.unicode = box_style_of_environment() == BoxStyle::unicode;
  winsize size{};
  if (options.terminal && ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) options.columns = size.ws_col;
  return options;
}

Progress::Progress(std::string what, std::int64_t total, std::int64_t done, ProgressOptions options)
    : what_(std::move(what)), total_(total), start_(done), done_(done), options_(std::move(options)) {
  MUONP_ASSERT(total >= 1 && done >= 0 && done <= total, "progress {} of {}", done, total);
  if (!options_.clock) options_.clock = core::seconds_now;
  started_ = options_.clock();
  shown_ = options_.terminal ? started_ - options_.redraw_seconds : started_;  // the bar shows at once, a line later
}

Progress::~Progress() { clear(); }

std::string Progress::time_left() const {
  const double elapsed = options_.clock() - started_;
  const std::int64_t steps = done_ - start_;
  if (steps <= 0 || done_ == total_) return "";
  return core::format_duration(elapsed / static_cast<double>(steps) * static_cast<double>(total_ - done_)) + " left";
}

std::string Progress::bar_line() const {
  std::string right = fmt::format(" {}/{}", done_, total_);
  if (const std::string left = time_left(); !left.empty()) right.append(", ").append(left);
  if (!note_.empty()) right.append(", ").append(note_);
  const auto columns = static_cast<std::size_t>(std::max(options_.columns - 1, kNarrowest));
  const std::size_t used = display_width(what_) + 1 + display_width(right);
  const std::size_t width = std::min<std::size_t>(40, columns > used + 2 ? columns - used - 2 : 0);
  std::string bar;
  if (width >= 8) {
    const auto filled =
        static_cast<std::size_t>(static_cast<double>(width) * static_cast<double>(done_) / static_cast<double>(total_));
    for (std::size_t i = 0; i < width; ++i) bar += options_.unicode ? (i < filled ? "█" : "░") : (i < filled ? "#" : ".");
    if (!options_.unicode) bar = fmt::format("[{}]", bar);
  }
  return cut(fmt::format("{} {}{}", what_, bar, right), columns);
}

void Progress::draw() {
  std::fputs(fmt::format("\r{}\x1b[K", bar_line()).c_str(), options_.out);
  std::fflush(options_.out);
  visible_ = true;
}

void Progress::update(std::int64_t done, const std::string& note) {
  MUONP_ASSERT(done >= 0 && done <= total_, "progress {} of {}", done, total_);
  done_ = done;
  note_ = note;
  const double now = options_.clock();
  const bool due = now - shown_ >= (options_.terminal ? options_.redraw_seconds : options_.line_seconds);
  if (!due && !(options_.terminal && done == total_)) return;
  shown_ = now;
  if (options_.terminal) return draw();
  const std::string left = time_left();
  const double percent = 100.0 * static_cast<double>(done_) / static_cast<double>(total_);
  std::fputs(fmt::format("{} {}/{} ({:.0f} %){}{}{}{}\n", what_, done_, total_, percent, left.empty() ? "" : ", ", left,
                         note_.empty() ? "" : ", ", note_)
                 .c_str(),
             options_.out);
  std::fflush(options_.out);
}

void Progress::print(const std::string& line) {
  const bool again = visible_;
  clear();
  std::fputs((line + "\n").c_str(), options_.out);
  std::fflush(options_.out);
  if (again) draw();
}

void Progress::clear() {
  if (!visible_) return;
  std::fputs("\r\x1b[K", options_.out);
  std::fflush(options_.out);
  visible_ = false;
}

}  // namespace muonp::launch
