// What each compressor would send for a model's matrices: the table of `muonp plan --compressors`.
#pragma once

#include <string>

#include "launch/train/start_report.h"

namespace muonp::launch {

// A row for each kind, and for those that the configuration names. Error if no parameter belongs to a muonp group.
std::string compressor_table(const StartFacts& facts);

}  // namespace muonp::launch
