#include "launch/train/logit_clipping.h"

#include <algorithm>
#include <vector>

namespace muonp::launch {

LogitClipping clip_logits(Session& session, const models::QkClip& clip, core::Stopwatch& judging) {
  std::vector<double> largest = clip.largest(session.device().queue());
  judging.time([&] { session.communicator().all_reduce(std::span<double>(largest), dist::Reduce::max); });
  return {{std::ranges::max(largest), clip.clipped(largest)}, clip.scales(largest)};
}

}  // namespace muonp::launch
