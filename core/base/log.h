// What a person reads while the program runs. Rank 0 speaks for all; warnings and errors name their rank.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace muonp::core {

class Log {
 public:
  Log(int rank, int world_size) : rank_(rank), world_size_(world_size) {}
  int rank() const { return rank_; }
  bool speaks() const { return rank_ == 0; }

  // To standard output, from rank 0 only, flushed line by line.
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    if (speaks()) print(fmt::format(format, std::forward<Args>(args)...));
  }
  // To standard error, from any rank, as "muonp: warning: rank 2 of 4: ...".
  template <class... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) const {
    complain("warning", fmt::format(format, std::forward<Args>(args)...));
  }
  void error(const std::string& message) const { complain("error", message); }

 private:
  static void print(const std::string& line);
  void complain(const char* kind, const std::string& message) const;
  int rank_, world_size_;
};

}  // namespace muonp::core
