#include "core/data/tokenizer/word_cache.h"

namespace muonp::core {

std::span<const std::int32_t> WordCache::find(std::string_view word, std::uint64_t hash) const {
  for (std::size_t i = hash & (slots_.size() - 1); slots_[i].bytes != 0; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.hash == hash && slot.bytes == word.size() && word == std::string_view(texts_.data() + slot.text, slot.bytes))
      return {ids_.data() + slot.ids, slot.count};
  }
  return {};
}

WordCache::Slot& WordCache::slot_for(std::uint64_t hash) {
  std::size_t i = hash & (slots_.size() - 1);
  while (slots_[i].bytes != 0) i = (i + 1) & (slots_.size() - 1);
  return slots_[i];
}

void WordCache::grow() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  for (const Slot& slot : old)
    if (slot.bytes != 0) slot_for(slot.hash) = slot;
}

void WordCache::insert(std::string_view word, std::uint64_t hash, std::span<const std::int32_t> ids) {
  if (word.empty() || ids.empty()) return;
  if (used_ * 2 >= kMostSlots || texts_.size() + word.size() + 4 * (ids_.size() + ids.size()) > kMostBytes) {
    slots_.assign(kLeastSlots, Slot{});
    texts_.clear();
    ids_.clear();
    used_ = 0;
  }
  if (used_ * 2 >= slots_.size()) grow();
  slot_for(hash) = {hash, static_cast<std::uint32_t>(texts_.size()), static_cast<std::uint32_t>(word.size()),
                    static_cast<std::uint32_t>(ids_.size()), static_cast<std::uint32_t>(ids.size())};
  ++used_;
  texts_ += word;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
}

}  // namespace muonp::core
