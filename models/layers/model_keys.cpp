#include "models/layers/model_keys.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/error.h"

namespace muonp::models {

void require_choice(std::string_view key, const std::string& value, std::span<const std::string_view> valid) {
  if (std::ranges::find(valid, value) == valid.end())
    core::fail("model.{}: '{}' is not known; valid are {}", key, value, fmt::join(valid, ", "));
}

void fill_size(std::string_view key, std::int64_t& value, std::int64_t from_preset,
               std::span<const std::string_view> presets) {
  if (value == 0) value = from_preset;
  if (value < 0) core::fail("model.{}: {} is negative", key, value);
  if (value == 0)
    core::fail("model.{} is not given: set it, or choose one of model.preset: {}", key, fmt::join(presets, ", "));
}

}  // namespace muonp::models
