// Devices, errors, planted failures, and processes that end.
#include <cstdlib>

#include "cublas_v2.h"
#include "cuda_host_fixture.h"

namespace {

__global__ void nothing() {}

using RuntimeTest = CudaHost;

cuda_host::Settings devices(int count) {
  cuda_host::Settings settings;
  settings.devices = count;
  return settings;
}

TEST_F(RuntimeTest, DevicesAreWhatTheSettingsSay) {
  start(devices(3));
  int count = 0, device = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 3);
  EXPECT_EQ(cudaSetDevice(2), cudaSuccess);
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 2);
  EXPECT_EQ(cudaSetDevice(3), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
  cudaDeviceProp a{}, b{};
  EXPECT_EQ(cudaGetDeviceProperties(&a, 0), cudaSuccess);
  EXPECT_EQ(cudaGetDeviceProperties(&b, 1), cudaSuccess);
  EXPECT_NE(a.pciBusID, b.pciBusID);
  EXPECT_NE(std::string(a.uuid.bytes, 16), std::string(b.uuid.bytes, 16));
  EXPECT_EQ(a.sharedMemPerBlockOptin, size_t{227} << 10);
  int major = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  EXPECT_EQ(major, a.major);
  EXPECT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 3), cudaErrorInvalidDevice);
}

TEST_F(RuntimeTest, MissingAndOldDriversAreToldApartByTheirVersion) {
  int count = -1, version = -1;
  void* pointer = nullptr;
  cuda_host::Settings settings;
  settings.driver = cuda_host::Driver::kNone;
  start(settings);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  EXPECT_EQ(count, -1);  // as the real one leaves it
  EXPECT_EQ(cudaDriverGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version, 0);
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorInsufficientDriver);
  settings.driver = cuda_host::Driver::kOld;
  start(settings);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  EXPECT_EQ(cudaDriverGetVersion(&version), cudaSuccess);
  EXPECT_GT(version, 0);
  EXPECT_LT(version, CUDART_VERSION);
  start(devices(0));
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
}

TEST_F(RuntimeTest, ErrorsStayUntilTakenAndStickyOnesForEver) {
  EXPECT_EQ(cudaSetDevice(7), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // does not clear it
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  cuda_host::break_device(0, cudaErrorIllegalAddress);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorIllegalAddress);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorIllegalAddress), "an illegal memory access was encountered");
}

TEST_F(RuntimeTest, PlantedFailuresHappenOnceAtTheirCall) {
  cuda_host::fail_next("cudaMalloc", cudaErrorMemoryAllocation, 1);
  float *a = nullptr, *b = nullptr;
  EXPECT_EQ(cudaMalloc(&a, 4), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&b, 4), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&b, 4), cudaSuccess);
  cudaFree(a);
  cudaFree(b);
  cuda_host::fail_next("kernel launch", cudaErrorLaunchOutOfResources);
  cuda_host::launch(nothing, dim3(1), dim3(1), 0, nullptr);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorLaunchOutOfResources);
  cuda_host::fail_next("cublasCreate", cudaErrorMemoryAllocation);
  cublasHandle_t handle = nullptr;
  EXPECT_EQ(cublasCreate(&handle), CUBLAS_STATUS_ALLOC_FAILED);
}

TEST_F(RuntimeTest, CallsAfterUnloadingSaySo) {
  float* p = device<float>(1);
  cudaStream_t s = stream();
  cuda_host::unload();
  EXPECT_EQ(cudaFree(p), cudaErrorCudartUnloading);
  EXPECT_EQ(cudaStreamDestroy(s), cudaErrorCudartUnloading);
  cuda_host::configure(cuda_host::Settings{});
  EXPECT_EQ(cuda_host::take_reports().size(), 2U);  // the allocation and the stream
}

TEST_F(RuntimeTest, AnotherDevicesStreamIsRefused) {
  start(devices(2));
  cudaStream_t s = stream();
  cudaSetDevice(1);
  cuda_host::launch(nothing, dim3(1), dim3(1), 0, s);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidResourceHandle);
  cudaEvent_t e = event();
  EXPECT_EQ(cudaEventRecord(e, s), cudaErrorInvalidResourceHandle);
  cudaEventDestroy(e);
  cudaStreamDestroy(s);
}

TEST_F(RuntimeTest, EnvironmentIsReadAndChecked) {
  setenv("CUDA_HOST_MODE", "async", 1);
  setenv("CUDA_HOST_DEVICES", "4", 1);
  EXPECT_EQ(cuda_host::Settings::from_environment().mode, cuda_host::Mode::kAsync);
  EXPECT_EQ(cuda_host::Settings::from_environment().devices, 4);
  setenv("CUDA_HOST_MODE", "fast", 1);
  EXPECT_THROW(cuda_host::Settings::from_environment(), std::invalid_argument);
  unsetenv("CUDA_HOST_MODE");
  setenv("CUDA_HOST_DEVICES", "-1", 1);
  EXPECT_THROW(cuda_host::Settings::from_environment(), std::invalid_argument);
  unsetenv("CUDA_HOST_DEVICES");
}

// What a program without a test's fixture meets.
TEST(DefaultActionDeathTest, ReportsAbortAndLeaksEndWithStatus70) {
  int local = 0;
  EXPECT_DEATH(cudaFree(&local), "cuda_host: cudaFree: .* not the start of a live allocation");
  EXPECT_EXIT(
      {
        void* pointer = nullptr;
        cudaMalloc(&pointer, 12);
        std::exit(0);
      },
      testing::ExitedWithCode(70), "cuda_host: leak: allocation #1 of 12 bytes on device 0");
}

}  // namespace
