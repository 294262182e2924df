// A count of things or bytes that is made from a user's sizes: a sum or product that leaves 64 bits throws, instead of going
// on as a number that is wrong.
#pragma once

#include <compare>
#include <cstdint>
#include <stdexcept>

namespace muonp::core {

class Count {
 public:
  constexpr Count(std::int64_t value) : value_(value) {}  // NOLINT: counts mix with plain sizes
  constexpr std::int64_t value() const { return value_; }

  friend constexpr Count operator+(Count a, Count b) {
    return checked(a, b, [](auto x, auto y, auto* z) { return __builtin_add_overflow(x, y, z); });
  }
  friend constexpr Count operator-(Count a, Count b) {
    return checked(a, b, [](auto x, auto y, auto* z) { return __builtin_sub_overflow(x, y, z); });
  }
  friend constexpr Count operator*(Count a, Count b) {
    return checked(a, b, [](auto x, auto y, auto* z) { return __builtin_mul_overflow(x, y, z); });
  }
  friend constexpr auto operator<=>(Count, Count) = default;

 private:
  template <class Operation>
  static constexpr Count checked(Count a, Count b, const Operation& operation) {
    std::int64_t result = 0;
    if (operation(a.value_, b.value_, &result)) throw std::overflow_error("a count leaves 64 bits");
    return result;
  }
  std::int64_t value_;
};

}  // namespace muonp::core
