#include "runtime.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <utility>

#include "cuda_host_nccl.h"
#include "cuda_runtime.h"
#include "nccl_comm.h"

namespace cuda_host {
namespace {

constexpr size_t kPinnedCapacity = size_t{64} << 30;

struct HostThread {
  uint64_t generation = 0;
  int device = 0;
  cudaError_t last = cudaSuccess;
};

HostThread& host_thread() {
  thread_local HostThread state;
  if (state.generation != runtime().generation) state = {runtime().generation, 0, cudaSuccess};
  return state;
}

void start(Runtime& r, const Settings& settings) {
  r.settings = settings;
  ++r.generation;
  r.unloaded = false;
  r.pinned = std::make_unique<Arena>("pinned memory", kPinnedCapacity, false);
  for (int i = 0; i < settings.devices; ++i) r.devices.push_back(std::make_unique<Device>(i, settings));
  install_fault_handler();
}

Runtime* start_from_environment() {
  IgnoredBySanitizer ignored;
  auto* r = new Runtime;  // outlives every static of the program
  try {
    r->settings = Settings::from_environment();
    return r;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_host: %s\n", error.what());
    std::abort();
  }
}

void for_each_arena(Runtime& r, auto&& action) {
  action(*r.pinned);
  for (auto& device : r.devices) action(device->memory);
}

void report_remains() {
  Runtime& r = runtime();
  std::vector<std::string> texts;
  const auto count_leaks = [&](size_t count, const char* what) {
    if (count > 0 && r.settings.report_leaks) texts.push_back("leak: " + std::to_string(count) + what);
  };
  count_leaks(live_communicators(), " NCCL communicator(s) neither destroyed nor aborted");
  {
    Hold hold(r.lock);
    count_leaks(r.streams.size(), " stream(s) never destroyed");
    count_leaks(r.events.size(), " event(s) never destroyed");
    count_leaks(r.cublas_handles.size(), " cuBLAS handle(s) never destroyed");
    for_each_arena(r, [&](Arena& arena) {
      for (auto& text : arena.damages(true)) texts.push_back(text);
      if (!r.settings.report_leaks) return;
      for (auto& text : arena.leaks()) texts.push_back(text);
    });
  }
  for (const std::string& text : texts) report_at_exit(text);
}

void drop(Runtime& r) {
  forget_communicators();
  std::vector<CUstream_st*> streams(r.streams.begin(), r.streams.end());
  streams.insert(streams.end(), r.closing_streams.begin(), r.closing_streams.end());
  for (auto& device : r.devices) streams.push_back(device->legacy);
  for (CUstream_st* stream : streams) stream->close();
  for (CUstream_st* stream : streams) {
    stream->wait_finished();
    delete stream;
  }
  for (CUevent_st* event : r.events) delete event;
  r.streams.clear();
  r.closing_streams.clear();
  r.events.clear();
  delete_cublas_handles();
  r.failures.clear();
  r.devices.clear();
  r.pinned.reset();
}

// After the destructors of the program's statics, which may still free memory.
std::atomic<bool> was_used{false};
[[gnu::destructor(101)]] void check_at_exit() {
  if (!was_used) return;
  IgnoredBySanitizer ignored;
  for (auto& device : runtime().devices) wait_for_device(device->index);
  report_remains();
  if (reported_at_exit()) std::_Exit(70);
}

}  // namespace

Device::Device(int device_index, const Settings& settings)
    : index(device_index),
      memory("device " + std::to_string(device_index), settings.memory, settings.mode == Mode::kInline),
      legacy(new CUstream_st(device_index, cudaStreamDefault, true, settings)) {}

Runtime& runtime() {
  static Runtime* instance = start_from_environment();
  // The devices' streams ask for the settings, so they start when these are there.
  static const bool started = (start(*instance, instance->settings), was_used = true);
  static_cast<void>(started);
  return *instance;
}

const Settings& settings() { return runtime().settings; }

void configure(const Settings& settings) {
  IgnoredBySanitizer ignored;
  Runtime& r = runtime();
  for (auto& device : r.devices) wait_for_device(device->index);
  report_remains();
  drop(r);
  start(r, settings);
  r.operations = 0;
  r.waits = 0;
}

int current_device_index() { return host_thread().device; }
void set_current_device(int device) { host_thread().device = device; }
Device& current_device() { return *runtime().devices[current_device_index()]; }

cudaError_t admit(const char* function) {
  Runtime& r = runtime();
  Hold hold(r.lock);
  if (r.unloaded) return cudaErrorCudartUnloading;
  if (auto planted = r.failures.find(function); planted != r.failures.end() && planted->second.skip-- == 0) {
    const cudaError_t error = planted->second.error;
    r.failures.erase(planted);
    return error;
  }
  if (r.settings.driver != Driver::kOk) return cudaErrorInsufficientDriver;
  if (r.devices.empty()) return cudaErrorNoDevice;
  return current_device().sticky;
}

cudaError_t keep_error(cudaError_t error) {
  if (error != cudaSuccess) host_thread().last = error;
  return error;
}

void fail_next(const std::string& function, cudaError_t error, int skip) {
  Hold hold(runtime().lock);
  runtime().failures[function] = {error, skip};
}

void break_device(int device, cudaError_t error) {
  Hold hold(runtime().lock);
  runtime().devices.at(device)->sticky = error;
}

void unload() {
  Hold hold(runtime().lock);
  runtime().unloaded = true;
}

void check_memory() {
  std::vector<std::string> texts;
  {
    Hold hold(runtime().lock);
    for_each_arena(runtime(), [&](Arena& arena) {
      for (auto& text : arena.damages(true)) texts.push_back(text);
    });
  }
  for (const std::string& text : texts) report(text);
}

void check_guards(int device) {
  std::vector<std::string> texts;
  {
    Hold hold(runtime().lock);
    texts = runtime().devices[device]->memory.damages(false);
  }
  for (const std::string& text : texts) report(text);
}

size_t operations() {
  Hold hold(runtime().lock);
  return runtime().operations;
}

size_t waits() {
  Hold hold(runtime().lock);
  return runtime().waits;
}

namespace {

Arena::Traffic traffic() {
  Arena::Traffic all;
  for (auto& device : runtime().devices) {
    all.read += device->memory.traffic().read;
    all.written += device->memory.traffic().written;
  }
  return all;
}

}  // namespace

TrafficMeter::TrafficMeter() {
#ifndef __x86_64__
  throw std::logic_error("cuda_host: a TrafficMeter outside x86-64");
#endif
  if (runtime().settings.mode != Mode::kInline) throw std::logic_error("cuda_host: a TrafficMeter in asynchronous mode");
  if (std::exchange(runtime().metered, true)) throw std::logic_error("cuda_host: two TrafficMeters");
  read_before_ = traffic().read;
  written_before_ = traffic().written;
}

TrafficMeter::~TrafficMeter() { runtime().metered = false; }
size_t TrafficMeter::read() const { return traffic().read - read_before_; }
size_t TrafficMeter::written() const { return traffic().written - written_before_; }

size_t live_allocations() {
  Hold hold(runtime().lock);
  size_t count = 0;
  for_each_arena(runtime(), [&](Arena& arena) { count += arena.live_count(); });
  return count;
}

DeviceAccess::DeviceAccess(DeviceMask devices) : devices_(devices) {
  for (auto& device : runtime().devices) {
    if ((devices_ & device_bit(device->index)) != 0) device->memory.open(runtime().metered);
  }
}

DeviceAccess::~DeviceAccess() {
  for (auto& device : runtime().devices) {
    if ((devices_ & device_bit(device->index)) != 0) device->memory.close();
  }
}

Location locate(const char* function, const char* name, const void* pointer, size_t bytes) {
  Runtime& r = runtime();
  std::string text;
  {
    Hold hold(r.lock);
    Location location{Place::kPageable, -1, 0};
    const auto start = reinterpret_cast<uintptr_t>(pointer);
    for_each_arena(r, [&](Arena& arena) {
      if (!arena.contains(pointer)) return;
      const Allocation* allocation = arena.find(pointer);
      if (allocation == nullptr) {
        text = arena.describe(pointer);
      } else if (start + bytes > allocation->address + allocation->bytes) {
        text = std::to_string(bytes) + " bytes from " + arena.describe(pointer) + ", reaching past its end";
      } else {
        location.place = &arena == r.pinned.get() ? Place::kPinned : Place::kDevice;
        location.allocation = allocation->address;
      }
    });
    for (auto& device : r.devices) {
      if (location.place == Place::kDevice && device->memory.contains(pointer)) location.device = device->index;
    }
    if (text.empty()) return location;
  }
  report(std::string(function) + ": " + name + ": " + text);
  return {Place::kInvalid, -1, 0};
}

// Here, since they share the thread's state.
extern "C" {
cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  host_thread().last = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const Runtime& r = runtime();
  if (!r.devices.empty() && current_device().sticky != cudaSuccess) return current_device().sticky;
  return host_thread().last;
}
}

}  // namespace cuda_host
