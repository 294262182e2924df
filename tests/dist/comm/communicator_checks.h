// What every communicator must do, checked on all forms of it. Collective: every rank calls the same check.
// Data are whole numbers, so that results are exact whatever the order; buffers lie between guard bands.
#pragma once

#include <bit>
#include <cstring>
#include <vector>

#include "core/base/rng.h"
#include "dist/comm/communicator.h"

namespace muonp::test {

// `count` elements between two guard bands that nobody may write to.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count) : count_(count), memory_(static_cast<std::size_t>(count + 2 * kBand)) {
    std::memset(static_cast<void*>(memory_.data()), kPattern, memory_.size() * sizeof(T));
  }
  T& operator[](std::int64_t i) { return memory_[static_cast<std::size_t>(kBand + i)]; }
  const T& operator[](std::int64_t i) const { return memory_[static_cast<std::size_t>(kBand + i)]; }
  std::int64_t count() const { return count_; }
  T* data() { return memory_.data() + kBand; }
  dist::Span span() { return {data(), count_, core::dtype_of<T>}; }
  bool intact() const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(memory_.data());
    const std::size_t band = kBand * sizeof(T), all = memory_.size() * sizeof(T);
    for (std::size_t i = 0; i < band; ++i)
      if (bytes[i] != kPattern || bytes[all - 1 - i] != kPattern) return false;
    return true;
  }

 private:
  static constexpr std::int64_t kBand = 32;
  static constexpr unsigned char kPattern = 0xA5;
  std::int64_t count_;
  std::vector<T> memory_;
};

// A whole number in [−8, 8]: sums over a few ranks are exact in every element type.
inline float whole(int rank, std::int64_t i) {
  return static_cast<float>(
      static_cast<int>(core::random_below(7, static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(i), 17)) - 8);
}
// A number whose sums depend on the order.
inline float rough(int rank, std::int64_t i) {
  return core::normal(11, static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(i)) *
         std::exp2(static_cast<float>(i % 24));
}

void check_reduce_scatter(dist::Communicator& comm);
void check_all_gather(dist::Communicator& comm);
void check_all_reduce(dist::Communicator& comm);
void check_all_reduce_values(dist::Communicator& comm);
void check_broadcast(dist::Communicator& comm);
void check_exchange(dist::Communicator& comm);
void check_all_gather_bytes(dist::Communicator& comm);
void check_bfloat16_rounds_once(dist::Communicator& comm);
void check_not_a_number_is_kept(dist::Communicator& comm);
void check_long_messages(dist::Communicator& comm);
// All of the above, on one communicator in a row.
void check_everything(dist::Communicator& comm);

// The bits that this rank holds after sums of numbers that are not exact: equal for all forms of
// communicator.
std::vector<std::uint32_t> bits_of_rough_sums(dist::Communicator& comm);

}  // namespace muonp::test
