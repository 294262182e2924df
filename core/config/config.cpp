#include "core/config/config.h"

#include <algorithm>

#include "core/config/config_values.h"

namespace muonp::core {

std::string nearest(std::string_view word, std::span<const std::string> candidates) {
  const auto best = std::min_element(candidates.begin(), candidates.end(), [&](const auto& a, const auto& b) {
    return config::edit_distance(word, a) < config::edit_distance(word, b);
  });
  return best == candidates.end() ? "" : *best;
}

}  // namespace muonp::core
