// QK-clip in a training step (models/layers/qk_clip.h).
#pragma once

#include <cstdint>

#include "core/device/stopwatch.h"
#include "launch/program/session.h"
#include "models/layers/qk_clip.h"

namespace muonp::launch {

// Of all layers and heads over the batch of a step, the same on all ranks.
struct LogitRecord {
  double largest = 0;
  std::int64_t clipped = 0;  // heads whose weights the step scales
};

struct LogitClipping {
  LogitRecord record;
  std::vector<core::ScaledElements> scales;  // for StepOptions::scales
};

// After the passes of a step: one maximum over ranks of the logits of all layers and heads, whose wait `judging` times.
// Collective.
LogitClipping clip_logits(Session& session, const models::QkClip& clip, core::Stopwatch& judging);

}  // namespace muonp::launch
