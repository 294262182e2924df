// Two kinds of failure (docs/errors.md): Error is bad input or environment and its message tells the user what
// to change; InternalError is a broken invariant, a defect of this program.
#pragma once

#include <fmt/format.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

namespace muonp::core {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

// What memory or threads that the system refuses are called, whose exceptions are the standard library's; empty
// for all others.
std::string system_refusal(const std::exception& error);

// Throws Error with a formatted message: what is wrong, where, what is valid.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace muonp::core

// Preconditions and invariants; the message quotes the condition. Active in every build type.
#define MUONP_ASSERT(condition, ...)                                                                             \
  do {                                                                                                           \
    if (!(condition)) [[unlikely]]                                                                               \
      throw ::muonp::core::InternalError(                                                                        \
          fmt::format("{}:{}: {} does not hold: {}", __FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__))); \
  } while (false)
