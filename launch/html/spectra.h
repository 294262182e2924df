// What docs/diagnostics.md writes into metrics.jsonl, as pictures.
#pragma once

#include <string_view>

namespace muonp::launch {

// Whether a key of metrics.jsonl is one of spectral diagnostics.
inline bool is_spectral_key(std::string_view key) { return key.starts_with("spectra.") || key == "spectra_seconds"; }

}  // namespace muonp::launch
