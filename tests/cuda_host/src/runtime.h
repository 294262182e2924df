// What the stand-in holds for the process, and the frame of every call. The NCCL part builds on this and
// stream.h.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cuda_host.h"
#include "driver_types.h"
#include "memory.h"
#include "report.h"
#include "stream.h"

struct cublasContext;

namespace cuda_host {

struct Device {
  Device(int device_index, const Settings& settings);
  int index;
  Arena memory;
  CUstream_st* legacy;
  cudaError_t sticky = cudaSuccess;
  std::map<const void*, size_t> dynamic_shared_limits;  // of kernels whose limit was raised
};

struct PlantedFailure {
  cudaError_t error;
  int skip;
};

struct Runtime {
  Settings settings;
  Lock lock;  // of everything below, arenas included
  std::vector<std::unique_ptr<Device>> devices;
  std::unique_ptr<Arena> pinned;
  std::set<CUstream_st*> streams;          // live handles, legacy streams not among them
  std::set<CUstream_st*> closing_streams;  // destroyed by the user, perhaps with work left
  std::set<CUevent_st*> events;
  std::set<cublasContext*> cublas_handles;
  std::map<std::string, PlantedFailure> failures;
  bool unloaded = false;
  uint64_t generation = 0;  // one for each configure
  size_t operations = 0;    // given to streams
  size_t waits = 0;         // of the host for a stream
  bool metered = false;     // a TrafficMeter lives
};

Runtime& runtime();
Device& current_device();
int current_device_index();
void set_current_device(int device);

// Whether the call may go on: planted failures, unloading, driver, sticky errors.
cudaError_t admit(const char* function);
// Keeps the error for cudaGetLastError of this thread, and returns it.
cudaError_t keep_error(cudaError_t error);

template <class Body>
cudaError_t call(const char* function, Body&& body) {
  const cudaError_t refused = admit(function);
  return keep_error(refused != cudaSuccess ? refused : body());
}

enum class Place { kDevice, kPinned, kPageable, kInvalid };
struct Location {
  Place place;
  int device;            // of kDevice
  uintptr_t allocation;  // address of kDevice and kPinned
};
// Where [pointer, pointer + bytes) lies. kInvalid, after a report that starts with `function: name`: it
// touches device or pinned memory outside one live allocation.
Location locate(const char* function, const char* name, const void* pointer, size_t bytes);

// Makes device memory accessible to this process in inline mode; nothing in asynchronous mode.
class DeviceAccess {
 public:
  explicit DeviceAccess(DeviceMask devices);
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;

 private:
  DeviceMask devices_;
};

void delete_cublas_handles();   // with the runtime's lock held or no other thread
void check_guards(int device);  // of live allocations; reports
void install_fault_handler();

}  // namespace cuda_host
