#include "dist/plan/timeline.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/math.h"

namespace muonp::dist {

using core::at;

double TimelineTask::seconds() const { return std::accumulate(parts.begin(), parts.end(), 0.0); }

int Timeline::add(TimelineTask task) {
  const int number = size();
  for (const int other : task.after) MUONP_ASSERT(other >= 0 && other < number, "task {} waits for task {}", number, other);
  queues_[at(task.stream)].push_back(number);
  tasks_.push_back(std::move(task));
  return number;
}

bool Timeline::ready(int task) const {
  return std::ranges::all_of(tasks_[at(task)].after, [this](int other) { return done_[at(other)]; });
}

// Of what it waited for, and of the task before it on its stream, the last to end.
int Timeline::cause_of(int task, int before) const {
  int cause = before;
  for (const int other : tasks_[at(task)].after)
    if (cause < 0 || runs_[at(other)].finish > runs_[at(cause)].finish) cause = other;
  return cause;
}

// From one end of a task to the next.
void Timeline::run() {
  runs_.assign(tasks_.size(), {});
  done_.assign(tasks_.size(), false);
  std::array<std::size_t, kStreams> next{};
  std::array<double, kStreams> left{};  // seconds of the task under way, alone; negative where none is
  left.fill(-1);
  double now = 0;
  for (std::size_t ended = 0; ended < tasks_.size();) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      if (left[s] >= 0 || next[s] == queues_[s].size() || !ready(queues_[s][next[s]])) continue;
      const int task = queues_[s][next[s]];
      left[s] = tasks_[at(task)].seconds();
      runs_[at(task)] = {now, now, cause_of(task, next[s] > 0 ? queues_[s][next[s] - 1] : -1)};
    }
    const bool both = left[at(Stream::compute)] > 0 && left[at(Stream::communication)] > 0;
    const auto speed = [&](std::size_t s) { return both && s != at(Stream::host) ? 1 / slowdown_ : 1.0; };
    double step = std::numeric_limits<double>::infinity();
    for (std::size_t s = 0; s < kStreams; ++s)
      if (left[s] >= 0) step = std::min(step, left[s] / speed(s));
    MUONP_ASSERT(step < std::numeric_limits<double>::infinity(), "no task can start");
    now += step;
    for (std::size_t s = 0; s < kStreams; ++s) {
      if (left[s] < 0) continue;
      const bool ends = left[s] / speed(s) <= step;
      left[s] = ends ? -1 : std::max(left[s] - step * speed(s), 0.0);
      if (!ends) continue;
      const int task = queues_[s][next[s]++];
      runs_[at(task)].finish = now;
      done_[at(task)] = true;
      ++ended;
    }
  }
}

double Timeline::finish(int task) const { return runs_[at(task)].finish; }

std::vector<std::array<double, kBounds>> Timeline::critical(double from, double to, int phases) const {
  std::vector<std::array<double, kBounds>> seconds(at(phases));
  int task = -1;  // the last that ends by `to`
  for (int t = 0; t < size(); ++t)
    if (runs_[at(t)].finish <= to && (task < 0 || runs_[at(t)].finish >= runs_[at(task)].finish)) task = t;
  for (; task >= 0 && runs_[at(task)].finish > from; task = runs_[at(task)].cause) {
    const Run& run = runs_[at(task)];
    const double whole = tasks_[at(task)].seconds();
    if (whole <= 0) continue;
    const double inside = (run.finish - std::max(run.start, from)) / whole;
    for (int b = 0; b < kBounds; ++b) seconds[at(tasks_[at(task)].phase)][at(b)] += tasks_[at(task)].parts[at(b)] * inside;
  }
  return seconds;
}

std::vector<TimelineSpan> Timeline::spans(double from, double to) const {
  std::vector<TimelineSpan> spans;
  for (int s = 0; s < kStreams; ++s) {
    const std::size_t first = spans.size();
    for (const int task : queues_[at(s)]) {
      const Run& run = runs_[at(task)];
      const double start = std::max(run.start, from), finish = std::min(run.finish, to);
      if (finish <= start) continue;
      const bool goes_on =
          spans.size() > first && spans.back().phase == tasks_[at(task)].phase && spans.back().finish == start;
      if (goes_on)
        spans.back().finish = finish;
      else
        spans.push_back({static_cast<Stream>(s), tasks_[at(task)].phase, start, finish});
    }
  }
  return spans;
}

}  // namespace muonp::dist
