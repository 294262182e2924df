// Device and pinned memory: a reserved range of addresses for each, with guard bands, fill patterns and a
// quarantine.
//
// Patterns are repeated 16-bit words that are NaN as bfloat16, float16, float and double alike, so that what
// was never written, what was freed and what lies beyond an allocation spoil any result they enter. The middle of an
// allocation above 1 GiB is left untouched (zeros), so that it takes only the memory that is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lock.h"

namespace cuda_host {

inline constexpr size_t kGuardBytes = 256;
inline constexpr uint64_t kFreshPattern = 0x7ff97ff97ff97ff9;
inline constexpr uint64_t kGuardPattern = 0x7ffb7ffb7ffb7ffb;
inline constexpr uint64_t kFreedPattern = 0x7ffd7ffd7ffd7ffd;

void fill(void* address, uint64_t pattern, size_t bytes);  // 8-byte aligned address; any number of bytes

struct Allocation {
  uintptr_t address;
  size_t bytes;
  uint64_t serial;  // the how-manieth allocation of its memory
};

// Not thread-safe: the callers hold the runtime's lock.
class Arena {
 public:
  // name: as in reports, "device 0" or "pinned memory". capacity: bytes that live allocations may have
  // together. protect: inaccessible but for the time of open() to close().
  Arena(std::string name, size_t capacity, bool protect);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* allocate(size_t bytes);  // null when full
  bool free(void* pointer);      // false: not the start of a live allocation
  bool contains(const void* pointer) const;
  const Allocation* find(const void* pointer) const;  // live, its end included; null if none
  // What is at this address, in words: the live allocation and offset, a freed one, or none.
  std::string describe(const void* pointer) const;
  std::string describe(const Allocation& allocation) const;

  // Guard bands of live allocations and, where asked, the fill of quarantined ones; a text for each that was
  // overwritten, once.
  std::vector<std::string> damages(bool freed_too);
  std::vector<std::string> leaks() const;
  size_t live_bytes() const { return live_bytes_; }
  size_t live_count() const { return live_.size(); }
  size_t capacity() const { return capacity_; }
  uintptr_t base() const { return base_; }

  // Nested; the outermost pair changes the pages' protection. metered: pages become accessible one by one, as touch() is
  // told of them.
  void open(bool metered = false);
  void close();

  struct Traffic {
    size_t read = 0, written = 0;  // bytes, in whole pages, of metered openings
  };
  // Of a fault at this address: makes its page accessible, and true, where a metered opening has not done so yet.
  bool touch(const void* address, bool write);
  const Traffic& traffic() const { return traffic_; }

 private:
  struct Slot {
    uintptr_t start;
    size_t bytes;
  };
  struct Freed {
    Allocation allocation;
    Slot slot;
  };
  Slot take_slot(size_t bytes);
  void give_slot(Slot slot);
  void release_oldest();
  bool grow(uintptr_t end);
  void set_protection(bool accessible);
  std::string damage(const Allocation& allocation) const;
  std::string damage(const Freed& freed) const;

  std::string name_;
  size_t capacity_;
  bool protect_;
  uintptr_t base_ = 0, end_ = 0, top_ = 0, mapped_end_ = 0;
  size_t live_bytes_ = 0, quarantined_bytes_ = 0;
  uint64_t serial_ = 0;
  std::map<uintptr_t, Allocation> live_;
  std::map<uintptr_t, size_t> gaps_;
  std::deque<Freed> quarantine_;
  std::vector<std::string> past_damages_;
  Lock access_lock_;
  int opened_ = 0;
  bool metered_ = false;
  Traffic traffic_;
  // Of each page, when metered: 2·opening + whether it was written in the last one that touched it.
  std::unique_ptr<uint32_t[], decltype(&std::free)> touched_{nullptr, &std::free};
  uint32_t opening_ = 0;
};

class Opened {
 public:
  explicit Opened(Arena& arena) : arena_(arena) { arena_.open(); }
  ~Opened() { arena_.close(); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

 private:
  Arena& arena_;
};

}  // namespace cuda_host
