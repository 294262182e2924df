#include "core/device/cuda/ranges.h"

#include <nvtx3/nvToolsExt.h>

namespace muonp::core::cuda {

void begin_range(const char* name) { nvtxRangePushA(name); }
void end_range() { nvtxRangePop(); }

}  // namespace muonp::core::cuda
