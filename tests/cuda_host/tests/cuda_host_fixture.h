// Every test starts with a fresh stand-in, and must have asked for each report that it caused.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda_host.h"
#include "cuda_host_launch.h"
#include "cuda_runtime.h"

class CudaHost : public testing::Test {
 protected:
  void SetUp() override { start(cuda_host::Settings{}); }

  void TearDown() override {
    cuda_host::configure(cuda_host::Settings{});  // looks for leaks and damages
    EXPECT_THAT(cuda_host::take_reports(), testing::IsEmpty());
  }

  void start(const cuda_host::Settings& settings) { cuda_host::configure(settings); }

  void start_async(uint64_t seed) {
    cuda_host::Settings settings;
    settings.mode = cuda_host::Mode::kAsync;
    settings.seed = seed;
    start(settings);
  }

  // The one report since the last look contains all of these words.
  void expect_report(const std::vector<std::string>& words) {
    const std::vector<std::string> reports = cuda_host::take_reports();
    ASSERT_THAT(reports, testing::SizeIs(1));
    for (const std::string& word : words) EXPECT_THAT(reports[0], testing::HasSubstr(word));
  }

  template <class T>
  static T* device(size_t count) {
    T* pointer = nullptr;
    EXPECT_EQ(cudaMalloc(&pointer, count * sizeof(T)), cudaSuccess);
    return pointer;
  }

  template <class T>
  static T* device(const std::vector<T>& values) {
    T* pointer = device<T>(values.size());
    EXPECT_EQ(cudaMemcpy(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    return pointer;
  }

  template <class T>
  static std::vector<T> host(const T* pointer, size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(cudaMemcpy(values.data(), pointer, count * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

  static cudaStream_t stream() {
    cudaStream_t created = nullptr;
    EXPECT_EQ(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking), cudaSuccess);
    return created;
  }

  static cudaEvent_t event() {
    cudaEvent_t created = nullptr;
    EXPECT_EQ(cudaEventCreateWithFlags(&created, cudaEventDisableTiming), cudaSuccess);
    return created;
  }

 private:
  cuda_host::CollectReports collect_;
};
