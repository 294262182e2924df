// Tasks of one rank on its compute stream, its communication stream and its host, run in the mind: each stream does its
// tasks in the order in which they were given to it, a task waits for those that it names, and what is done when follows
// from that. A pure function of the tasks.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dist/plan/cluster.h"

namespace muonp::dist {

enum class Stream : std::uint8_t { compute, communication, host };
inline constexpr int kStreams = 3;

struct TimelineTask {
  Stream stream = Stream::compute;
  int phase = 0;                        // of the caller's numbering
  std::array<double, kBounds> parts{};  // seconds, one after the other
  std::vector<int> after = {};          // tasks that were added before
  double seconds() const;
};

// A stream at work, in seconds from the start.
struct TimelineSpan {
  Stream stream = Stream::compute;
  int phase = 0;
  double start = 0, finish = 0;
};

class Timeline {
 public:
  // overlap: of two tasks, one that computes and one that communicates, the part of the shorter one that costs no time:
  // while both run each goes on at 1 / (2 − overlap) of its speed.
  explicit Timeline(double overlap) : slowdown_(2 - overlap) {}

  int add(TimelineTask task);  // its number
  int size() const { return static_cast<int>(tasks_.size()); }
  void run();

  double finish(int task) const;  // seconds from the start, after run()
  // What the tasks were that the last of all waited for, one after the other, between two times: seconds by phase and bound.
  // Their sum is the time between.
  std::vector<std::array<double, kBounds>> critical(double from, double to, int phases) const;
  // What each stream does between two times, in order; tasks of a phase without a pause between them are one span.
  std::vector<TimelineSpan> spans(double from, double to) const;

 private:
  struct Run {
    double start = 0, finish = 0;
    int cause = -1;  // the task whose end let it start
  };
  bool ready(int task) const;
  int cause_of(int task, int before) const;

  double slowdown_;
  std::vector<TimelineTask> tasks_;
  std::vector<Run> runs_;
  std::array<std::vector<int>, kStreams> queues_;
  std::vector<bool> done_;
};

}  // namespace muonp::dist
