#include "core/device/cpu/team.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>

namespace muonp::core::cpu {
namespace {

bool no_level_left() { return omp_get_active_level() >= omp_get_max_active_levels(); }

}  // namespace

int counted_team(int wanted) {
  const TeamSize exact(wanted);
  int threads = 1;
#pragma omp parallel num_threads(wanted)
#pragma omp single
  threads = omp_get_num_threads();
  return threads;
}

std::string what_limits_teams(int wanted) {
  if (omp_get_thread_limit() < wanted) return fmt::format("OMP_THREAD_LIMIT={}", omp_get_thread_limit());
  if (no_level_left())
    return fmt::format("OMP_MAX_ACTIVE_LEVELS={}{}", omp_get_max_active_levels(),
                       omp_in_parallel() ? ", within a parallel region" : "");
  return omp_get_dynamic() ? "OMP_DYNAMIC=true" : "OMP_THREAD_LIMIT, OMP_DYNAMIC and OMP_MAX_ACTIVE_LEVELS do not say why";
}

TeamSize::TeamSize(int threads) : before_(omp_get_max_threads()), dynamic_before_(omp_get_dynamic()) {
  const int most = no_level_left() ? 1 : std::min(threads, omp_get_thread_limit());
  if (before_ != most) omp_set_num_threads(most);
  if (dynamic_before_) omp_set_dynamic(0);
}

TeamSize::~TeamSize() {
  if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
  if (dynamic_before_) omp_set_dynamic(1);
}

}  // namespace muonp::core::cpu
