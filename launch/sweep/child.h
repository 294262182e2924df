// A process of its own that a sweep has started: another of this program, or a launcher with ranks of it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace muonp::launch {

class Child {
 public:
  struct Command {
    std::vector<std::string> words;        // a program, by its path or to be found in PATH, and its arguments
    std::vector<std::string> environment;  // "NAME=value", above this process's own
    std::string log;                       // file for what it prints, started anew
  };

  // Not reached by the terminal's Ctrl-C. Is asked to stop (SIGTERM) when this process ends, however it ends. Error: it
  // cannot be started.
  explicit Child(const Command& command);
  ~Child();  // asks it to stop, and waits
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Its exit status, 128 + n where signal n has ended it; nothing while it is there.
  std::optional<int> status();
  void ask_to_stop();  // SIGTERM, once

 private:
  pid_t process_ = -1;
  bool asked_ = false;
  std::optional<int> status_;
};

}  // namespace muonp::launch
