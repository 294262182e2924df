// Control of the stand-in: settings, reports, planted failures. Product code includes nothing of this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "driver_types.h"

namespace cuda_host {

enum class Mode {
  kInline,  // operations run at once on the caller; device memory is inaccessible to host code
  kAsync    // a thread for each stream, with random delays; memory stays readable
};
enum class Driver { kOk, kNone, kOld };

// Defaults of a process come from the environment variables named here.
struct Settings {
  Mode mode = Mode::kInline;           // CUDA_HOST_MODE=inline|async
  uint64_t seed = 1;                   // CUDA_HOST_SEED: delays, and the order of a block's threads (block.h)
  int devices = 1;                     // CUDA_HOST_DEVICES
  size_t memory = size_t{8} << 30;     // CUDA_HOST_MEMORY: bytes of each device
  int multiprocessors = 132;           // CUDA_HOST_MULTIPROCESSORS, of each device
  Driver driver = Driver::kOk;         // CUDA_HOST_DRIVER=none|old|ok
  bool report_leaks = true;            // CUDA_HOST_LEAKS=0 turns it off
  int node = 0;                        // CUDA_HOST_NODE: which of several pretended machines this process is on
  unsigned max_delay_us = 200;         // CUDA_HOST_DELAY: the longest wait before an operation in async mode
  static Settings from_environment();  // throws std::invalid_argument that names the variable
};

// Starts anew with these settings, as after a new start of the process: waits for all streams, reports guard
// bands and leaks as at exit, then drops every stream, event and allocation. No other thread may use the
// stand-in meanwhile.
void configure(const Settings& settings);
const Settings& settings();

// What was reported since the last configure or take_reports.
std::vector<std::string> reports();
std::vector<std::string> take_reports();
// The ranges of NVTX that the calling thread has begun and not ended, the outermost first.
std::vector<std::string> open_ranges();
// The default prints the report to stderr and aborts. A null action restores it. The report is kept in both
// cases.
void on_report(std::function<void(const std::string&)> action);

// Within its scope reports are only kept, and so can be looked at.
class CollectReports {
 public:
  CollectReports();
  ~CollectReports();
  CollectReports(const CollectReports&) = delete;
  CollectReports& operator=(const CollectReports&) = delete;
};

// The next call of `function` ("cudaMalloc", "cudaEventRecord", "cublasGemmEx" …) after `skip` more returns
// `error` and does nothing else.
void fail_next(const std::string& function, cudaError_t error, int skip = 0);
// From now on every call on this device returns `error`, as after a fault in a kernel.
void break_device(int device, cudaError_t error);
// From now on every call returns cudaErrorCudartUnloading, as during the end of a process.
void unload();

// Compares the guard bands of all live allocations and the fill of freed ones now.
void check_memory();
size_t live_allocations();
// Kernels, products, copies and fills given to streams since the last configure.
size_t operations();
// Times that the host has waited for a stream, as it does for what it reads of a device, since the last configure.
size_t waits();

// Counts what operations read and write of device memory while it lives, in inline mode and on x86-64: of each page of 4096
// bytes that an operation touches the whole, once, as read, as written or as both. So much crosses the memory of a device
// whose caches hold all that one operation uses and nothing until the next. One at a time, one thread.
class TrafficMeter {
 public:
  TrafficMeter();  // std::logic_error where it cannot count
  ~TrafficMeter();
  TrafficMeter(const TrafficMeter&) = delete;
  TrafficMeter& operator=(const TrafficMeter&) = delete;
  size_t read() const;  // bytes
  size_t written() const;

 private:
  size_t read_before_, written_before_;
};

}  // namespace cuda_host
