// For ThreadSanitizer: `races correct` must run silently; every other argument plants one race that must be
// named.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <thread>

#include "cublas_v2.h"
#include "cuda_host.h"
#include "cuda_host_launch.h"
#include "cuda_runtime.h"

namespace {

constexpr int kCount = 256;

__global__ void increment(float* values) { values[blockIdx.x * blockDim.x + threadIdx.x] += 1; }

__global__ void reverse(float* values, bool with_barrier) {
  __shared__ float copy[kCount];
  copy[threadIdx.x] = values[threadIdx.x];
  if (with_barrier) __syncthreads();
  values[threadIdx.x] = copy[kCount - 1 - threadIdx.x];
}

__global__ void exchange_in_warps(float* values) {
  __shared__ float copy[kCount];
  copy[threadIdx.x] = values[threadIdx.x];
  __syncwarp();
  values[threadIdx.x] = copy[threadIdx.x ^ 1U] + __shfl_xor_sync(0xffffffffU, values[threadIdx.x], 0);
}

struct Program {
  Program() {
    cudaMalloc(&values, kCount * sizeof(float));
    cudaMalloc(&others, kCount * sizeof(float));
    cudaMallocHost(&pinned, kCount * sizeof(float));
    for (cudaStream_t* stream : {&first, &second}) cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cublasCreate(&cublas);
    cudaMemset(values, 0, kCount * sizeof(float));
    cudaMemset(others, 0, kCount * sizeof(float));
    cudaDeviceSynchronize();
  }
  ~Program() {
    cublasDestroy(cublas);
    cudaEventDestroy(event);
    for (cudaStream_t stream : {first, second}) cudaStreamDestroy(stream);
    cudaFree(values);
    cudaFree(others);
    cudaFreeHost(pinned);
  }
  void increment_on(cudaStream_t stream) { cuda_host::launch_flat(increment, dim3(1), dim3(kCount), 0, stream, values); }
  void multiply_on(cudaStream_t stream) {
    const float alpha = 1, beta = 0;
    cublasSetStream(cublas, stream);
    cublasGemmEx(cublas, CUBLAS_OP_N, CUBLAS_OP_N, 16, 16, 16, &alpha, values, CUDA_R_32F, 16, values, CUDA_R_32F, 16, &beta,
                 others, CUDA_R_32F, 16, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  }
  void second_after_first() {
    cudaEventRecord(event, first);
    cudaStreamWaitEvent(second, event);
  }
  void copy_to_pinned() { cudaMemcpyAsync(pinned, values, kCount * sizeof(float), cudaMemcpyDeviceToHost, first); }

  float *values = nullptr, *others = nullptr, *pinned = nullptr;
  cudaStream_t first = nullptr, second = nullptr;
  cudaEvent_t event = nullptr;
  cublasHandle_t cublas = nullptr;
};

void correct() {
  for (int round = 0; round < 5; ++round) {
    Program p;
    for (int i = 0; i < kCount; ++i) p.pinned[i] = static_cast<float>(i);
    cudaMemcpyAsync(p.values, p.pinned, kCount * sizeof(float), cudaMemcpyHostToDevice, p.first);
    p.increment_on(p.first);
    cuda_host::launch(reverse, dim3(2), dim3(kCount), 0, p.first, p.values, true);
    cuda_host::launch(exchange_in_warps, dim3(1), dim3(kCount), 0, p.first, p.values);
    p.second_after_first();
    p.multiply_on(p.second);
    cudaEventRecord(p.event, p.second);
    cudaStreamWaitEvent(p.first, p.event);
    p.increment_on(p.first);
    p.copy_to_pinned();
    cudaEventRecord(p.event, p.first);
    while (cudaEventQuery(p.event) == cudaErrorNotReady) std::this_thread::yield();
    p.pinned[0] += 1;
    std::thread host([&] { p.increment_on(p.first); });  // another host thread goes on with the stream
    host.join();
    cudaStreamSynchronize(p.first);
    p.increment_on(nullptr);
    cudaDeviceSynchronize();
  }
}

void missing_event() {
  Program p;
  p.increment_on(p.first);
  p.increment_on(p.second);
}

void missing_event_of_product() {
  Program p;
  p.multiply_on(p.first);
  p.increment_on(p.second);
}

void missing_event_of_copy() {
  Program p;
  p.increment_on(p.first);
  cudaMemcpyAsync(p.others, p.values, kCount * sizeof(float), cudaMemcpyDeviceToDevice, p.second);
}

// The copy has long ended and the host has given the stream more work, but was never told of the end.
void missing_synchronise() {
  Program p;
  p.copy_to_pinned();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  p.increment_on(p.first);
  std::printf("%g\n", static_cast<double>(p.pinned[0]));
}

void source_changed_too_early() {
  Program p;
  cudaMemcpyAsync(p.values, p.pinned, kCount * sizeof(float), cudaMemcpyHostToDevice, p.first);
  p.pinned[3] = 1;
}

void missing_barrier() {
  Program p;
  cuda_host::launch(reverse, dim3(1), dim3(kCount), 0, p.first, p.values, false);
}

void shared_workspace() {
  Program p;
  void* workspace = nullptr;
  cudaMalloc(&workspace, 4096);
  cublasHandle_t other = nullptr;
  cublasCreate(&other);
  float* result = nullptr;
  cudaMalloc(&result, kCount * sizeof(float));
  p.multiply_on(p.first);  // sets the stream
  cublasSetWorkspace(p.cublas, workspace, 4096);
  const float one = 1, zero = 0;
  cublasSetStream(other, p.second);
  cublasSetWorkspace(other, workspace, 4096);
  for (auto [handle, c] : {std::pair{p.cublas, p.others}, std::pair{other, result}}) {
    cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 16, 16, 16, &one, p.values, CUDA_R_32F, 16, p.values, CUDA_R_32F, 16,
                 &zero, c, CUDA_R_32F, 16, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  }
  cudaDeviceSynchronize();
  cublasDestroy(other);
  cudaFree(workspace);
  cudaFree(result);
}

struct Case {
  const char* name;
  void (*run)();
};
constexpr Case kCases[] = {{"correct", correct},
                           {"missing_event", missing_event},
                           {"missing_event_of_product", missing_event_of_product},
                           {"missing_event_of_copy", missing_event_of_copy},
                           {"missing_synchronise", missing_synchronise},
                           {"source_changed_too_early", source_changed_too_early},
                           {"missing_barrier", missing_barrier},
                           {"shared_workspace", shared_workspace}};

}  // namespace

int main(int argc, char** argv) {
  cuda_host::Settings settings;
  settings.mode = cuda_host::Mode::kAsync;
  cuda_host::configure(settings);
  for (const Case& each : kCases) {
    if (argc != 2 || std::strcmp(argv[1], each.name) != 0) continue;
    each.run();
    return 0;
  }
  std::fprintf(stderr, "races: one argument is needed:");
  for (const Case& each : kCases) std::fprintf(stderr, " %s", each.name);
  std::fprintf(stderr, "\n");
  return 2;
}
