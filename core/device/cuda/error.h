// Every call of the CUDA runtime, cuBLAS and NCCL goes through MUONP_CUDA: a failure is an Error that quotes the call,
// says what the library says, and names the device, the rank and the host.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <string>

namespace muonp::core::cuda {

// What errors say of a device: "rank 3 on node7, GPU 1". Set by make_cuda_device().
void set_context(int device, std::string context);
std::string context();  // of the calling thread's current device

void check(cudaError_t status, const char* call);
void check(cublasStatus_t status, const char* call);

}  // namespace muonp::core::cuda

#define MUONP_CUDA(call) ::muonp::core::cuda::check((call), #call)
