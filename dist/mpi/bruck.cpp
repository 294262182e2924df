#include "dist/mpi/bruck.h"

#include <algorithm>
#include <cstdint>

#include "core/base/error.h"
#include "core/base/math.h"

namespace muonp::dist {

std::vector<BruckRound> bruck_rounds(int size, int rank) {
  MUONP_ASSERT(size >= 1 && rank >= 0 && rank < size, "rank {} of {}", rank, size);
  const std::int64_t n = size, me = rank;
  std::vector<BruckRound> rounds;
  for (std::int64_t held = 1; held < n; held *= 2)
    rounds.push_back({.to = core::to_int((me + n - held) % n),
                      .from = core::to_int((me + held) % n),
                      .count = core::to_int(std::min(held, n - held)),
                      .held = core::to_int(held)});
  return rounds;
}

}  // namespace muonp::dist
