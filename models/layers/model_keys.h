// What configurations of models have in common: how large they may be, and checks of their keys.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace muonp::models {

// The largest model that can be described: the bytes of its weights, gradients and states still fit into 64 bits.
inline constexpr std::int64_t kMostLayers = 4096, kMostWidth = 1 << 17, kMostContext = 1 << 20, kMostVocabulary = 1 << 24;
inline constexpr std::int64_t kMostChunkRows = std::int64_t{1} << 44;

inline constexpr std::array<std::string_view, 2> kRecompute = {"none", "blocks"};
inline constexpr std::array<std::string_view, 2> kLogits = {"float32", "bfloat16"};
inline constexpr std::string_view kLogitsMeaning =
    "type of the head's logits while training; bfloat16 (with parallel.compute: bfloat16) takes half the memory and is less "
    "exact";

// Error that names model.<key> unless `value` is one of `valid`.
void require_choice(std::string_view key, const std::string& value, std::span<const std::string_view> valid);
// Where `value` is 0, the preset's. Error that names model.<key>, and the presets, where it is 0 then as well.
void fill_size(std::string_view key, std::int64_t& value, std::int64_t from_preset,
               std::span<const std::string_view> presets);

}  // namespace muonp::models
