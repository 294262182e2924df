// The part of NVTX that the back end uses. What a thread has open is kept for tests (cuda_host.h).
#pragma once

int nvtxRangePushA(const char* message);
int nvtxRangePop();
