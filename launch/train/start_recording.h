// What stands in start.json (launch/records/start_record.h), from the facts of a start.
#pragma once

#include "launch/records/start_record.h"
#include "launch/train/start_report.h"

namespace muonp::launch {

// `step`: done before.
StartRecord start_record(const StartFacts& facts, std::int64_t step);

}  // namespace muonp::launch
