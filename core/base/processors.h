// What this process may use of its machine's processors.
#pragma once

#include <string>

namespace muonp::core {

struct Processors {
  int cores = 1;     // that the affinity mask allows
  double quota = 0;  // processor time that control groups allow, in cores' worth; 0 for no limit

  // Threads that they keep busy: of a quota of 1.5 cores two, each for three quarters of the time.
  int usable() const;
  std::string text() const;  // "2 cores", "0.5 of 2 cores by the control group's quota"
};

Processors processors();

// The smallest quota of this process's control groups and of those they lie in, of version 1 and 2, in cores' worth; 0 if
// none has one. `root` is where /proc and the mounted hierarchies are looked for (tests).
double processor_quota(const std::string& root = "");

}  // namespace muonp::core
