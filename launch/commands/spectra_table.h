// Spectral diagnostics of runs side by side (docs/diagnostics.md).
#pragma once

#include <span>
#include <string>

#include "launch/train/run_history.h"

namespace muonp::launch {

// The last values of every kind of matrices, a row for each run that has some; empty where none has.
std::string spectra_table(std::span<const RunHistory> runs);

}  // namespace muonp::launch
