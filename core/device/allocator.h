// Caching allocators that know what their memory is for. The CPU's blocks are aligned to 4096 bytes from one page up and
// to 64 bytes below, a GPU's to 256 bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/index.h"

namespace muonp::core {

enum class Category : std::uint8_t { weights, gradients, optimizer, activations, exchange, other };
inline constexpr std::size_t kCategories = 6;
std::string_view name_of(Category category);

struct MemoryUse {                               // bytes as requested, not as rounded up
  std::array<std::int64_t, kCategories> live{};  // now, by category
  std::array<std::int64_t, kCategories> peak{};  // highest of each category on its own
  std::int64_t live_total = 0;
  std::int64_t peak_total = 0;  // highest of the sum
  std::int64_t of(Category c) const { return live[at(c)]; }
  std::int64_t peak_of(Category c) const { return peak[at(c)]; }
};

// Thread-safe. One per device object, so that ranks that are threads of one process count separately.
class Allocator {
 public:
  virtual ~Allocator() = default;
  // Uninitialised memory; Error with the use by category when the device has no more. bytes ≥ 0.
  virtual void* allocate(std::int64_t bytes, Category category) = 0;
  virtual void release(void* pointer, std::int64_t bytes, Category category) noexcept = 0;
  // Gives cached blocks back to the system.
  virtual void trim() = 0;

  MemoryUse use() const;
  void reset_peak();

 protected:
  void count(std::int64_t bytes, Category category);  // negative when released

 private:
  mutable std::mutex use_mutex_;
  MemoryUse use_;
};

// Keeps freed blocks and hands them out again for the same size class. Not caching, it obtains each block with exactly
// the bytes asked for (at least one) and gives it back when it is released, so that tools which watch the ends of the
// system's blocks see an overrun: on a GPU with MUONP_NO_MEMORY_CACHE=1 in the environment.
class CachingAllocator : public Allocator {
 public:
  explicit CachingAllocator(bool caches = true) : caches_(caches) {}
  void* allocate(std::int64_t bytes, Category category) final;
  void release(void* pointer, std::int64_t bytes, Category category) noexcept final;
  void trim() final;

 protected:
  // Whether the system can spare so many bytes more; the cache is given back first where it cannot. For systems that
  // promise memory which they do not have.
  virtual bool has_room(std::int64_t /*bytes*/) { return true; }
  // A block of the system's memory, null when it has no more; called again after trim() then.
  virtual void* obtain(std::int64_t bytes) = 0;
  virtual void give_back(void* block) noexcept = 0;  // derived destructors call trim()
  virtual std::string where() const = 0;             // "on the host", for the message

 private:
  void* take(std::int64_t size);
  void* obtain_or_trim(std::int64_t size);

  bool caches_;
  std::mutex mutex_;
  std::map<std::int64_t, std::vector<void*>> cache_;
};

// Its cache is given back when free_host_memory() (core/device/host_memory.h) does not hold another large block.
std::shared_ptr<Allocator> make_cpu_allocator();

}  // namespace muonp::core
