#include "dist/plan/wave_layout.h"

#include <algorithm>
#include <tuple>

namespace muonp::dist {

WaveLayout layout_of(const ShardPlan& shards, const OwnerPlan& owners, int rank, int wave) {
  constexpr std::int64_t kAlignment = 64;
  std::vector<std::tuple<std::int64_t, std::int64_t, int>> order;  // length of rows, elements, task
  for (const int task : owners.wave(wave)) {
    if (!owners.owns(rank, task) || owners.is_shared(task)) continue;
    const core::Shape& shape = shards.parameters()[core::at(owners.tasks()[core::at(task)].parameter)].shape;
    order.emplace_back(shape.back(), core::element_count(shape), task);
  }
  std::ranges::sort(order);
  WaveLayout layout;
  for (const auto& [row, elements, task] : order) {
    layout.begins[task] = layout.elements;
    layout.elements += (elements + kAlignment - 1) / kAlignment * kAlignment;
  }
  return layout;
}

}  // namespace muonp::dist
