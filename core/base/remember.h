// Results that are computed once for each key.
#pragma once

#include <utility>

namespace muonp::core {

// The value of `key` in the map `known`, which compute() makes where there is none. Where that throws nothing is kept, and
// the next call tries again.
template <class Map, class Compute>
typename Map::mapped_type& remember(Map& known, const typename Map::key_type& key, const Compute& compute) {
  const auto found = known.find(key);
  return found != known.end() ? found->second : known.emplace(key, compute()).first->second;
}

}  // namespace muonp::core
