// How far a long job is. On a terminal a bar with the time left that redraws itself; elsewhere (a file, a
// pipe, a job log) a line now and then.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace muonp::launch {

struct ProgressOptions {
  std::FILE* out = stdout;
  bool terminal = false;
  bool unicode = false;
  int columns = 80;               // of the terminal
  double redraw_seconds = 0.1;    // least time between two drawings of the bar
  double line_seconds = 30;       // least time between two lines where there is no terminal
  std::function<double()> clock;  // seconds; empty: a steady clock
};

// What suits `out`: isatty, its width, the locale. A terminal that cannot move its cursor (TERM=dumb) counts
// as none.
ProgressOptions progress_options_for(std::FILE* out);

class Progress {
 public:
  // total ≥ 1. `done` is where the job starts (a resumed run); the time left counts from there.
  Progress(std::string what, std::int64_t total, std::int64_t done, ProgressOptions options);
  ~Progress();  // leaves the cursor at the start of an empty line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // done in [0, total]. `note` stands behind the bar ("loss 3.21").
  void update(std::int64_t done, const std::string& note);
  // There is more or less to do than was thought; at least what is done.
  void set_total(std::int64_t total) { total_ = total > done_ ? total : done_; }
  // A line above the bar.
  void print(const std::string& line);
  // Removes the bar; what is printed afterwards starts on a clean line. update() brings it back.
  void clear();

 private:
  std::string bar_line() const;
  std::string time_left() const;
  void draw();

  std::string what_, note_;
  std::int64_t total_, start_, done_;
  ProgressOptions options_;
  double started_, shown_;
  bool visible_ = false;
};

}  // namespace muonp::launch
