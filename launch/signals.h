// Being asked to stop. SIGINT (Ctrl-C), SIGTERM (a scheduler, mpirun) and SIGUSR1 (a scheduler's warning) set
// a flag that a training loop looks at between steps; a second Ctrl-C ends the process at once with status
// 130.
#pragma once

#include <csignal>

#include "core/error.h"

namespace muonp::launch {

inline constexpr int kInterruptedStatus = 130;

// Installs the handlers, and restores what stood there before. One object at a time in a process.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool requested() const;
  int signal() const;        // the first one that came, 0 for none
  const char* name() const;  // "SIGTERM", "" for none

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1};
  struct sigaction before_[3];
};

// The same without the object, for work far from it; false while none is alive.
bool stop_requested();

// Work that was given up because the process, or another rank, was asked to stop.
class Interrupted : public core::Error {
 public:
  Interrupted();
};

}  // namespace muonp::launch
