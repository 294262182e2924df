// What work on data that may take long tells and asks whoever started it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace muonp::core {

// Called now and then, at least once a second, by what may take long. What it throws ends that work; nothing half
// written stays.
using Poll = std::function<void()>;

struct Preparation {
  std::function<void(const std::string&)> say =
      {};  // gets a line before something that takes time, and one of what it left out
  Poll poll = {};
  // Bytes that are done, of `total` > 0.
  std::function<void(const std::string& what, std::int64_t done, std::int64_t total)> progress = {};
  int threads = 1;  // to compute with

  void tell(const std::string& line) const { say ? say(line) : void(); }
  void ask() const { poll ? poll() : void(); }
};

}  // namespace muonp::core
