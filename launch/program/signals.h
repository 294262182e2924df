// Being asked to stop. SIGINT (Ctrl-C), SIGTERM (a scheduler, mpirun), SIGUSR1 (a scheduler's warning) and SIGHUP (a
// terminal that is closed; not where it is ignored, as by nohup) set a flag that a training loop looks at between steps; a
// second Ctrl-C ends the process at once with status 130.
#pragma once

#include <csignal>
#include <iterator>
#include <string>
#include <thread>

#include "core/base/error.h"

namespace muonp::launch {

inline constexpr int kStopSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};
inline constexpr int kInterruptedStatus = 130;

// Keeps those signals from the threads that compute: while it lives, a thread of its own takes every signal that is sent to
// the process, and all others, those started later too, block them. Made by `main` before any other thread is there.
//
// oneDNN's products of float32 may move the stack pointer into a buffer on the heap (oneDNN issue 4845, mended in 2026). The
// frame of a handler that interrupts one is then written over whatever lies before that buffer.
class SignalThread {
 public:
  SignalThread();
  ~SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

 private:
  sigset_t before_{};
  std::jthread thread_;
};

// Installs the handlers, and restores those that stood there before. Where there was none, its own stay: a signal that comes
// late, because another rank's has ended the run or because a launcher repeats it, does not change the status of work that is
// done (a second Ctrl-C still ends the process). One object at a time in a process.
class StopSignals {
 public:
  // `speaks`: the first signal is answered by a line on standard error, for which launch/mpirun.sh waits.
  explicit StopSignals(bool speaks = false);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool requested() const;
  int signal() const;        // the first one that came, 0 for none
  const char* name() const;  // "SIGTERM", "" for none

 private:
  struct sigaction before_[std::size(kStopSignals)];
};

// The same without the object, for work far from it; false while none is alive.
bool stop_requested();

// Work that was given up because the process, or another rank, was asked to stop. The program's `main` turns one that
// leaves a command into "stopped by SIGTERM" and what `left` says of the output, with status 128 + signal().
class Interrupted : public core::Error {
 public:
  explicit Interrupted(const std::string& left = "");
  int signal() const { return signal_; }  // 0: another rank's

 private:
  int signal_;
};

// For work that may be given up, which calls it at least once a second while a StopSignals is alive: throws Interrupted when
// the process has been asked to stop.
void require_no_stop(const std::string& left = "");

}  // namespace muonp::launch
