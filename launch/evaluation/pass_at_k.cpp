#include "launch/evaluation/pass_at_k.h"

#include "core/base/error.h"

namespace muonp::launch {

// As a product, whose factors do not overflow.
double pass_at_k(std::int64_t n, std::int64_t c, std::int64_t k) {
  MUONP_ASSERT(k >= 1 && k <= n && c >= 0 && c <= n, "pass@{} of {} answers, {} right", k, n, c);
  if (n - c < k) return 1;
  double all_wrong = 1;
  for (std::int64_t i = n - c + 1; i <= n; ++i) all_wrong *= 1 - static_cast<double>(k) / static_cast<double>(i);
  return 1 - all_wrong;
}

}  // namespace muonp::launch
