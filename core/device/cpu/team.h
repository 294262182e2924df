// Teams of OpenMP threads. The number that is asked for is not always the number that run (OMP_THREAD_LIMIT, OMP_DYNAMIC,
// nested regions), and oneDNN and OpenBLAS take the one for the other: what the missing threads had to do is then left out
// or waited for without end. So they are called with the number that runs.
#pragma once

#include <string>

namespace muonp::core::cpu {

// Threads of a team when the calling thread asks for `wanted`, counted by starting it; a busy machine gives no fewer.
int counted_team(int wanted);

// What keeps a team below `wanted` threads on the calling thread, with its value: "OMP_THREAD_LIMIT=1".
std::string what_limits_teams(int wanted);

// While it lives, teams of the calling thread, the libraries' among them, have `threads` threads, or as many fewer as OpenMP
// will start, and no fewer for the load of the machine.
class TeamSize {
 public:
  explicit TeamSize(int threads);
  TeamSize(const TeamSize&) = delete;
  TeamSize& operator=(const TeamSize&) = delete;
  ~TeamSize();

 private:
  int before_, dynamic_before_;
};

}  // namespace muonp::core::cpu
