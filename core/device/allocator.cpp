#include "core/device/allocator.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/device/host_memory.h"

namespace muonp::core {

std::string_view name_of(Category category) {
  static constexpr std::array<std::string_view, kCategories> names = {"weights",     "gradients", "optimizer",
                                                                      "activations", "exchange",  "other"};
  return names[at(category)];
}

MemoryUse Allocator::use() const {
  std::lock_guard lock(use_mutex_);
  return use_;
}

void Allocator::reset_peak() {
  std::lock_guard lock(use_mutex_);
  use_.peak = use_.live;
  use_.peak_total = use_.live_total;
}

void Allocator::count(std::int64_t bytes, Category category) {
  std::lock_guard lock(use_mutex_);
  const auto c = static_cast<std::size_t>(category);
  use_.live[c] += bytes;
  use_.live_total += bytes;
  use_.peak[c] = std::max(use_.peak[c], use_.live[c]);
  use_.peak_total = std::max(use_.peak_total, use_.live_total);
}

namespace {

constexpr std::int64_t kPage = 4096, kLine = 64;
constexpr std::int64_t kAskFrom = std::int64_t{1} << 20;

// Size classes an eighth of a power of two apart keep the waste under 1/8 and let near sizes share blocks.
std::int64_t size_class(std::int64_t bytes) {
  if (bytes <= kPage) return std::max(kLine, (bytes + kLine - 1) / kLine * kLine);
  std::int64_t step = kPage;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

void* CachingAllocator::allocate(std::int64_t bytes, Category category) {
  MUONP_ASSERT(bytes >= 0, "{} bytes requested", bytes);
  const std::int64_t size = caches_ ? size_class(bytes) : std::max<std::int64_t>(bytes, 1);
  void* block = take(size);
  if (!block) block = obtain_or_trim(size);
  if (!block) {
    const MemoryUse u = use();
    fail(
        "out of memory {}: {} more bytes for {} with {} bytes in use (weights {}, gradients {}, optimizer {}, "
        "activations {}, exchange {}); a smaller data.micro_batch or a higher parallel.zero needs less, and "
        "`muonp plan` tells how much",
        where(), bytes, name_of(category), u.live_total, u.of(Category::weights), u.of(Category::gradients),
        u.of(Category::optimizer), u.of(Category::activations), u.of(Category::exchange));
  }
  count(bytes, category);
  return block;
}

void CachingAllocator::release(void* pointer, std::int64_t bytes, Category category) noexcept {
  count(-bytes, category);
  if (!caches_) return give_back(pointer);
  try {
    const std::lock_guard lock(mutex_);
    cache_[size_class(bytes)].push_back(pointer);
  } catch (const std::bad_alloc&) {
    give_back(pointer);
  }
}

void CachingAllocator::trim() {
  const std::lock_guard lock(mutex_);
  for (auto& [size, blocks] : cache_)
    for (void* block : blocks) give_back(block);
  cache_.clear();
}

void* CachingAllocator::take(std::int64_t size) {
  const std::lock_guard lock(mutex_);
  const auto found = cache_.find(size);
  if (found == cache_.end() || found->second.empty()) return nullptr;
  void* block = found->second.back();
  found->second.pop_back();
  return block;
}

void* CachingAllocator::obtain_or_trim(std::int64_t size) {
  if (!has_room(size)) trim();
  if (void* block = obtain(size)) return block;
  trim();
  return obtain(size);
}

namespace {

class CpuAllocator final : public CachingAllocator {
 public:
  ~CpuAllocator() override { trim(); }

 private:
  // Linux promises more than there is, and kills who touches it; to ask takes longer than small blocks are worth.
  bool has_room(std::int64_t size) override { return size < kAskFrom || size <= free_host_memory(); }
  void* obtain(std::int64_t size) override {
    return std::aligned_alloc(static_cast<std::size_t>(size < kPage ? kLine : kPage), static_cast<std::size_t>(size));
  }
  void give_back(void* block) noexcept override { std::free(block); }
  std::string where() const override { return "on the host"; }
};

}  // namespace

std::shared_ptr<Allocator> make_cpu_allocator() { return std::make_shared<CpuAllocator>(); }

}  // namespace muonp::core
