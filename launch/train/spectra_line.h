// Spectral diagnostics of one step as a line of metrics.jsonl (docs/diagnostics.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "optim/engine/diagnostics.h"

namespace muonp::launch {

// Keys of the means over a kind of matrices: kSpectraPrefix, the kind, ".momentum.stable_rank" and so on.
inline constexpr std::string_view kSpectraPrefix = "spectra.";

std::string spectra_line(std::int64_t step, double seconds, std::span<const optim::MatrixRecord> records);

}  // namespace muonp::launch
