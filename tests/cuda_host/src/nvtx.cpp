#include "nvtx3/nvToolsExt.h"

#include <string>
#include <vector>

#include "cuda_host.h"
#include "report.h"

namespace {
thread_local std::vector<std::string> open_on_thread;
}

int nvtxRangePushA(const char* message) {
  open_on_thread.emplace_back(message);
  return static_cast<int>(open_on_thread.size()) - 1;
}

int nvtxRangePop() {
  if (open_on_thread.empty()) {
    cuda_host::report("nvtxRangePop without a range of this thread");
    return -1;
  }
  open_on_thread.pop_back();
  return static_cast<int>(open_on_thread.size());
}

namespace cuda_host {
std::vector<std::string> open_ranges() { return open_on_thread; }
}  // namespace cuda_host
