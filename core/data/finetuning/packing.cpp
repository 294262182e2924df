#include "core/data/finetuning/packing.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

#include "core/base/error.h"
#include "core/base/index.h"

namespace muonp::core {
namespace {

std::vector<std::int32_t> longest_first(std::span<const std::int32_t> lengths) {
  std::vector<std::int32_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::int32_t d) { return lengths[at(d)]; });
  return order;
}

}  // namespace

Packing pack(std::span<const std::int32_t> lengths, std::int64_t capacity) {
  std::vector<std::vector<std::int32_t>> sequences;
  std::map<std::int64_t, std::vector<std::size_t>> by_room;  // sequences by the room that is left in them
  for (const std::int32_t d : longest_first(lengths)) {
    const std::int64_t length = lengths[at(d)];
    MUONP_ASSERT(length >= 1 && length <= capacity, "a document of {} in sequences of {}", length, capacity);
    std::size_t s = sequences.size();
    std::int64_t room = capacity;
    if (const auto fullest = by_room.lower_bound(length); fullest != by_room.end()) {
      room = fullest->first;
      s = fullest->second.back();
      fullest->second.pop_back();
      if (fullest->second.empty()) by_room.erase(fullest);
    } else {
      sequences.emplace_back();
    }
    sequences[s].push_back(d);
    if (room > length) by_room[room - length].push_back(s);
  }
  for (auto& documents : sequences) std::ranges::sort(documents);
  std::ranges::sort(sequences, {}, [](const auto& documents) { return documents.front(); });
  Packing packing{{}, {0}};
  for (const auto& documents : sequences) {
    packing.documents.insert(packing.documents.end(), documents.begin(), documents.end());
    packing.begins.push_back(std::ssize(packing.documents));
  }
  return packing;
}

}  // namespace muonp::core
