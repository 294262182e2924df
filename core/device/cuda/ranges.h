// Ranges of NVTX, which NVIDIA's tools (Nsight Systems) show beside a thread's calls; they cost next to nothing where none
// looks on. Nothing in a build without the CUDA Toolkit.
#pragma once

namespace muonp::core::cuda {

void begin_range(const char* name);
void end_range();  // the last that this thread began

}  // namespace muonp::core::cuda
