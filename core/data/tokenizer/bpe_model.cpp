#include "core/data/tokenizer/bpe_model.h"

#include <algorithm>
#include <bit>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/utf8.h"

namespace muonp::core {
namespace {

constexpr std::size_t kShort = 48;           // symbols up to which looking through all pairs is faster than a heap
constexpr std::size_t kLongestCached = 256;  // bytes

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

std::size_t scatter(std::uint64_t pair) { return static_cast<std::size_t>((pair * 0x9e3779b97f4a7c15u) >> 20); }

}  // namespace

BpeModel::BpeModel(const BpeOptions& options, const std::vector<std::pair<std::string, std::int32_t>>& tokens,
                   const std::vector<Merge>& merges)
    : options_(options), pairs_(std::bit_ceil(2 * merges.size() + 2)) {
  for (const auto& [text, id] : tokens) tokens_.emplace(text, id);
  bytes_.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::string name = options_.byte_level ? std::string(1, static_cast<char>(byte)) : fmt::format("<0x{:02X}>", byte);
    if (const auto found = tokens_.find(name); found != tokens_.end()) bytes_[byte] = found->second;
  }
  std::int32_t rank = 0;
  for (const Merge& merge : merges) insert_pair(merge, rank++);
}

bool BpeModel::knows_all_bytes() const {
  return (options_.byte_level || options_.byte_fallback) && std::ranges::find(bytes_, -1) == bytes_.end();
}

// A pair that is named twice keeps its last place, as in the original.
void BpeModel::insert_pair(const Merge& merge, std::int32_t rank) {
  const std::uint64_t ids = pair_of(merge.left, merge.right);
  std::size_t i = scatter(ids) & (pairs_.size() - 1);
  while (pairs_[i].result >= 0 && pairs_[i].ids != ids) i = (i + 1) & (pairs_.size() - 1);
  pairs_[i] = {ids, rank, merge.result};
}

const BpeModel::Pair* BpeModel::find_pair(std::int32_t left, std::int32_t right) const {
  const std::uint64_t ids = pair_of(left, right);
  std::size_t i = scatter(ids) & (pairs_.size() - 1);
  for (; pairs_[i].result >= 0; i = (i + 1) & (pairs_.size() - 1))
    if (pairs_[i].ids == ids) return &pairs_[i];
  return nullptr;
}

void BpeModel::encode_word(std::string_view word, Work& work, std::vector<std::int32_t>& ids) const {
  const std::uint64_t hash = hash_bytes(word.data(), std::ssize(word));
  if (const auto known = work.cache.find(word, hash); !known.empty()) {
    ids.insert(ids.end(), known.begin(), known.end());
    return;
  }
  work.ids.clear();
  const auto whole = options_.ignore_merges ? tokens_.find(word) : tokens_.end();
  if (whole != tokens_.end()) {
    work.ids.push_back(whole->second);
  } else {
    first_symbols(word, work.ids);
    work.ids.size() <= kShort ? merge_short(work.ids) : merge_long(work);
  }
  ids.insert(ids.end(), work.ids.begin(), work.ids.end());
  if (word.size() <= kLongestCached) work.cache.insert(word, hash, work.ids);
}

void BpeModel::first_symbols(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (!options_.byte_level) return characters(word, ids);
  for (const char c : word) {
    const std::int32_t id = bytes_[static_cast<unsigned char>(c)];
    if (id >= 0)
      ids.push_back(id);
    else if (options_.unknown >= 0 && !(options_.fuse_unknown && !ids.empty() && ids.back() == options_.unknown))
      ids.push_back(options_.unknown);
  }
}

void BpeModel::characters(std::string_view word, std::vector<std::int32_t>& ids) const {
  bool after_unknown = false;
  while (!word.empty()) {
    const std::string_view character = word.substr(0, std::max<std::size_t>(utf8_length(word), 1));
    word.remove_prefix(character.size());
    const auto has_token = [&](char c) { return bytes_[static_cast<unsigned char>(c)] >= 0; };
    if (const auto found = tokens_.find(character); found != tokens_.end()) {
      ids.push_back(found->second);
    } else if (options_.byte_fallback && std::ranges::all_of(character, has_token)) {
      for (const char c : character) ids.push_back(bytes_[static_cast<unsigned char>(c)]);
    } else {
      if (options_.unknown >= 0 && !(after_unknown && options_.fuse_unknown)) ids.push_back(options_.unknown);
      after_unknown = true;
      continue;
    }
    after_unknown = false;
  }
}

// The pair of the lowest rank is merged, of several the leftmost, until none can be.
void BpeModel::merge_short(std::vector<std::int32_t>& ids) const {
  std::array<const Pair*, kShort> pairs{};
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) pairs[i] = find_pair(ids[i], ids[i + 1]);
  while (ids.size() > 1) {
    std::size_t best = ids.size();
    for (std::size_t i = 0; i + 1 < ids.size(); ++i)
      if (pairs[i] && (best == ids.size() || pairs[i]->rank < pairs[best]->rank)) best = i;
    if (best == ids.size()) return;
    ids[best] = pairs[best]->result;
    ids.erase(ids.begin() + std::ptrdiff_t(best) + 1);
    std::copy(pairs.begin() + std::ptrdiff_t(best) + 2, pairs.begin() + std::ptrdiff_t(ids.size()) + 1,
              pairs.begin() + std::ptrdiff_t(best) + 1);
    if (best > 0) pairs[best - 1] = find_pair(ids[best - 1], ids[best]);
    if (best + 1 < ids.size()) pairs[best] = find_pair(ids[best], ids[best + 1]);
  }
}

// The same by a heap of (rank, place) over a linked list, for words of any length. An entry whose pair has changed since is
// passed over: a symbol only grows, so that no other pair at its place gives the same result.
void BpeModel::merge_long(Work& work) const {
  std::vector<std::int32_t>&ids = work.ids, &next = work.next, &previous = work.previous;
  const auto count = static_cast<std::int32_t>(ids.size());
  next.resize(ids.size());
  previous.resize(ids.size());
  for (std::int32_t i = 0; i < count; ++i) next[at(i)] = i + 1 < count ? i + 1 : -1, previous[at(i)] = i - 1;
  work.heap.clear();
  const auto push = [&](std::int32_t place) {
    if (place < 0 || next[at(place)] < 0) return;
    const Pair* pair = find_pair(ids[at(place)], ids[at(next[at(place)])]);
    if (!pair) return;
    work.heap.emplace_back(static_cast<std::uint64_t>(pair->rank) << 32 | static_cast<std::uint32_t>(place), pair->result);
    std::ranges::push_heap(work.heap, std::greater<>());
  };
  for (std::int32_t i = 0; i < count; ++i) push(i);
  while (!work.heap.empty()) {
    std::ranges::pop_heap(work.heap, std::greater<>());
    const auto [key, result] = work.heap.back();
    work.heap.pop_back();
    const auto place = static_cast<std::int32_t>(key & 0xffffffffu);
    const std::int32_t right = next[at(place)];
    if (ids[at(place)] < 0 || right < 0) continue;
    const Pair* pair = find_pair(ids[at(place)], ids[at(right)]);
    if (!pair || pair->result != result) continue;
    ids[at(place)] = result;
    ids[at(right)] = -1;
    next[at(place)] = next[at(right)];
    if (next[at(place)] >= 0) previous[at(next[at(place)])] = place;
    push(previous[at(place)]);
    push(place);
  }
  std::erase(ids, -1);
}

}  // namespace muonp::core
