// The ids of words that were met before: most words of a text are. One thread's own.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

class WordCache {
 public:
  WordCache() : slots_(kLeastSlots) {}
  // The ids of `word`, whose hash is given; an empty span if they are not known (a word has one id or more).
  std::span<const std::int32_t> find(std::string_view word, std::uint64_t hash) const;
  // The word is not known yet. Forgets all others when it holds as much as it may.
  void insert(std::string_view word, std::uint64_t hash, std::span<const std::int32_t> ids);

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t text = 0, bytes = 0;  // bytes == 0: free
    std::uint32_t ids = 0, count = 0;
  };
  static constexpr std::size_t kLeastSlots = std::size_t{1} << 12, kMostSlots = std::size_t{1} << 18;
  static constexpr std::size_t kMostBytes = std::size_t{8} << 20;

  Slot& slot_for(std::uint64_t hash);
  void grow();

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::size_t used_ = 0;
  std::string texts_;
  std::vector<std::int32_t> ids_;
};

}  // namespace muonp::core
