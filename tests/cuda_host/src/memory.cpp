#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <stdexcept>

namespace cuda_host {
namespace {

constexpr size_t kAlignment = 256, kPage = 4096;
constexpr size_t kChunk = size_t{2} << 20;   // of mapping: a whole huge page, so that protection changes stay cheap
constexpr size_t kSparse = size_t{1} << 30;  // above this only the first and last kChunk of an allocation are filled
constexpr size_t kQuarantineCount = 256, kQuarantineBytes = size_t{128} << 20;

size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Offset of the first byte that differs from the pattern, or bytes. Patterns have period 2, whose start is an
// even address.
size_t first_difference(uintptr_t start, size_t bytes, uint64_t pattern) {
  const auto* memory = reinterpret_cast<const unsigned char*>(start);
  const uint64_t expected = start % 2 == 0 ? pattern : std::rotr(pattern, 8);
  size_t i = 0;
  for (; i + 8 <= bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, memory + i, 8);
    if (word != expected) break;
  }
  for (; i < bytes; ++i) {
    if (memory[i] != static_cast<unsigned char>(expected >> (i % 2 * 8))) return i;
  }
  return bytes;
}

// The last bytes of an allocation that are filled too where its middle is left alone; as aligned as its start.
size_t last_chunk(size_t bytes) { return (bytes - kChunk) / kAlignment * kAlignment; }

void fill_ends(uintptr_t start, uint64_t pattern, size_t bytes) {
  const bool sparse = bytes > kSparse;
  fill(reinterpret_cast<void*>(start), pattern, sparse ? kChunk : bytes);
  if (sparse) fill(reinterpret_cast<void*>(start + last_chunk(bytes)), pattern, bytes - last_chunk(bytes));
}

size_t first_difference_at_ends(uintptr_t start, size_t bytes, uint64_t pattern) {
  if (bytes <= kSparse) return first_difference(start, bytes, pattern);
  const size_t at = first_difference(start, kChunk, pattern), last = last_chunk(bytes);
  return at < kChunk ? at : last + first_difference(start + last, bytes - last, pattern);
}

}  // namespace

void fill(void* address, uint64_t pattern, size_t bytes) {
  auto* words = static_cast<uint64_t*>(address);
  for (size_t i = 0; i < bytes / 8; ++i) words[i] = pattern;
  std::memcpy(words + bytes / 8, &pattern, bytes % 8);
}

Arena::Arena(std::string name, size_t capacity, bool protect)
    : name_(std::move(name)), capacity_(capacity), protect_(protect) {
  // Twice the capacity for fragmentation and guard bands, and room for many small allocations.
  const size_t reserved = round_up(2 * capacity + (size_t{4} << 30), kChunk);
  void* address = mmap(nullptr, reserved + kChunk, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    throw std::runtime_error("cuda_host: cannot reserve " + std::to_string(reserved) + " bytes of addresses for " + name_ +
                             "; lower CUDA_HOST_MEMORY");
  }
  base_ = round_up(reinterpret_cast<uintptr_t>(address), kChunk);
  end_ = base_ + reserved;
  top_ = mapped_end_ = base_;
  madvise(reinterpret_cast<void*>(base_), reserved, MADV_HUGEPAGE);
}

Arena::~Arena() { munmap(reinterpret_cast<void*>(base_), end_ - base_); }

void Arena::set_protection(bool accessible) {
  if (mapped_end_ == base_) return;
  mprotect(reinterpret_cast<void*>(base_), mapped_end_ - base_, accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
}

void Arena::open(bool metered) {
  if (!protect_) return;
  Hold hold(access_lock_);
  if (opened_++ > 0) return;
  metered_ = metered;
  if (!metered) return set_protection(true);
  if (!touched_) {  // fresh pages of the system are zeros, and take memory when they are used
    touched_.reset(static_cast<uint32_t*>(std::calloc((end_ - base_) / kPage, sizeof(uint32_t))));
    if (!touched_) throw std::bad_alloc();
  }
  ++opening_;
}

void Arena::close() {
  if (!protect_) return;
  Hold hold(access_lock_);
  if (--opened_ > 0) return;
  set_protection(false);
  metered_ = false;
}

bool Arena::touch(const void* pointer, bool write) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (!metered_ || address < base_ || address >= mapped_end_) return false;
  Hold hold(access_lock_);
  const size_t page = (address - base_) / kPage;
  uint32_t& state = touched_[page];
  const bool known = state / 2 == opening_;
  if (known && (state % 2 == 1 || !write)) return true;  // another thread was faster
  (write ? traffic_.written : traffic_.read) += kPage;
  state = 2 * opening_ + (write ? 1 : 0);
  return mprotect(reinterpret_cast<void*>(base_ + page * kPage), kPage, write ? PROT_READ | PROT_WRITE : PROT_READ) == 0;
}

bool Arena::grow(uintptr_t end) {
  if (end > end_) return false;
  if (end <= mapped_end_) return true;
  Hold hold(access_lock_);
  const uintptr_t old_end = mapped_end_;
  mapped_end_ = std::min(round_up(end, kChunk), end_);
  const bool accessible = !protect_ || opened_ > 0;
  return mprotect(reinterpret_cast<void*>(old_end), mapped_end_ - old_end,
                  accessible ? PROT_READ | PROT_WRITE : PROT_NONE) == 0;
}

Arena::Slot Arena::take_slot(size_t bytes) {
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    if (gap->second < bytes) continue;
    const Slot slot{gap->first, bytes};
    const size_t rest = gap->second - bytes;
    gaps_.erase(gap);
    if (rest > 0) gaps_.emplace(slot.start + bytes, rest);
    return slot;
  }
  if (!grow(top_ + bytes)) return {0, 0};
  const Slot slot{top_, bytes};
  top_ += bytes;
  return slot;
}

void Arena::give_slot(Slot slot) {
  auto next = gaps_.upper_bound(slot.start);
  if (next != gaps_.end() && slot.start + slot.bytes == next->first) {
    slot.bytes += next->second;
    next = gaps_.erase(next);
  }
  if (next != gaps_.begin()) {
    auto previous = std::prev(next);
    if (previous->first + previous->second == slot.start) {
      previous->second += slot.bytes;
      return;
    }
  }
  gaps_.emplace(slot.start, slot.bytes);
}

void* Arena::allocate(size_t bytes) {
  const size_t payload = round_up(bytes, kAlignment);
  if (payload < bytes || payload > capacity_ || live_bytes_ > capacity_ - payload) return nullptr;
  const Slot slot = take_slot(payload + 2 * kGuardBytes);
  if (slot.start == 0) return nullptr;
  const uintptr_t address = slot.start + kGuardBytes;
  Opened opened(*this);
  fill_ends(slot.start, kGuardPattern, slot.bytes);
  fill_ends(address, kFreshPattern, bytes);
  live_.emplace(address, Allocation{address, bytes, ++serial_});
  live_bytes_ += payload;
  return reinterpret_cast<void*>(address);
}

bool Arena::free(void* pointer) {
  const auto found = live_.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == live_.end()) return false;
  const Allocation allocation = found->second;
  Opened opened(*this);
  if (std::string text = damage(allocation); !text.empty()) past_damages_.push_back(text);
  live_.erase(found);
  const size_t payload = round_up(allocation.bytes, kAlignment);
  live_bytes_ -= payload;
  const Slot slot{allocation.address - kGuardBytes, payload + 2 * kGuardBytes};
  fill_ends(slot.start, kFreedPattern, slot.bytes);
  quarantine_.push_back({allocation, slot});
  quarantined_bytes_ += slot.bytes;
  while (quarantine_.size() > kQuarantineCount || quarantined_bytes_ > kQuarantineBytes) release_oldest();
  return true;
}

// Called with the arena open.
void Arena::release_oldest() {
  const Freed freed = quarantine_.front();
  if (std::string text = damage(freed); !text.empty()) past_damages_.push_back(text);
  quarantined_bytes_ -= freed.slot.bytes;
  quarantine_.pop_front();
  const uintptr_t first = round_up(freed.slot.start, kChunk);
  const uintptr_t last = (freed.slot.start + freed.slot.bytes) / kChunk * kChunk;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  give_slot(freed.slot);
}

bool Arena::contains(const void* pointer) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return address >= base_ && address < end_;
}

const Allocation* Arena::find(const void* pointer) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto next = live_.upper_bound(address);
  if (next == live_.begin()) return nullptr;
  const Allocation& allocation = std::prev(next)->second;
  return address <= allocation.address + allocation.bytes ? &allocation : nullptr;
}

std::string Arena::describe(const Allocation& allocation) const {
  return "allocation #" + std::to_string(allocation.serial) + " of " + std::to_string(allocation.bytes) + " bytes on " +
         name_;
}

std::string Arena::describe(const void* pointer) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (const Allocation* allocation = find(pointer)) {
    return "byte " + std::to_string(address - allocation->address) + " of " + describe(*allocation);
  }
  for (auto freed = quarantine_.rbegin(); freed != quarantine_.rend(); ++freed) {
    if (address >= freed->slot.start && address < freed->slot.start + freed->slot.bytes) {
      return "use after free: byte " + std::to_string(static_cast<intptr_t>(address - freed->allocation.address)) +
             " of the freed " + describe(freed->allocation);
    }
  }
  if (auto next = live_.upper_bound(address); next != live_.begin()) {
    const Allocation& before = std::prev(next)->second;
    const size_t past = address - before.address - before.bytes;
    if (past < kGuardBytes) return std::to_string(past) + " bytes past the end of " + describe(before);
  }
  return "no live allocation on " + name_;
}

std::string Arena::damage(const Allocation& allocation) const {
  const uintptr_t before = allocation.address - kGuardBytes;
  const size_t below = first_difference(before, kGuardBytes, kGuardPattern);
  if (below < kGuardBytes) {
    return "write " + std::to_string(kGuardBytes - below) + " bytes before the start of " + describe(allocation);
  }
  const uintptr_t end = allocation.address + allocation.bytes;
  const size_t behind = round_up(allocation.bytes, kAlignment) - allocation.bytes + kGuardBytes;
  const size_t above = first_difference(end, behind, kGuardPattern);
  if (above < behind) return "write " + std::to_string(above) + " bytes past the end of " + describe(allocation);
  return "";
}

std::string Arena::damage(const Freed& freed) const {
  const size_t at = first_difference_at_ends(freed.slot.start, freed.slot.bytes, kFreedPattern);
  if (at == freed.slot.bytes) return "";
  const auto offset = static_cast<intptr_t>(at) - static_cast<intptr_t>(kGuardBytes);
  return "write after free at byte " + std::to_string(offset) + " of the freed " + describe(freed.allocation);
}

std::vector<std::string> Arena::damages(bool freed_too) {
  std::vector<std::string> texts = std::move(past_damages_);
  past_damages_.clear();
  Opened opened(*this);
  for (auto& [address, allocation] : live_) {
    std::string text = damage(allocation);
    if (text.empty()) continue;
    texts.push_back(text);
    // Reported once: the bands are made whole again.
    fill(reinterpret_cast<void*>(address - kGuardBytes), kGuardPattern, kGuardBytes);
    const uintptr_t end = address + allocation.bytes;
    const size_t behind = round_up(allocation.bytes, kAlignment) - allocation.bytes + kGuardBytes;
    for (size_t i = 0; i < behind; ++i) {
      reinterpret_cast<unsigned char*>(end)[i] = reinterpret_cast<const unsigned char*>(&kGuardPattern)[(end + i) % 2];
    }
  }
  if (!freed_too) return texts;
  for (const Freed& freed : quarantine_) {
    std::string text = damage(freed);
    if (text.empty()) continue;
    texts.push_back(text);
    fill_ends(freed.slot.start, kFreedPattern, freed.slot.bytes);
  }
  return texts;
}

std::vector<std::string> Arena::leaks() const {
  std::vector<std::string> texts;
  for (const auto& [address, allocation] : live_) texts.push_back("leak: " + describe(allocation));
  return texts;
}

}  // namespace cuda_host
