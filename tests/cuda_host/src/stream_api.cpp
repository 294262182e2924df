// Streams and events, as calls.
#include "cuda_runtime.h"
#include "runtime.h"

using cuda_host::call;
using cuda_host::find_stream;
using cuda_host::Hold;
using cuda_host::runtime;
using cuda_host::TicketRef;

namespace {

// Deletes destroyed streams whose work has ended. Under the runtime's lock.
void sweep_closing_streams() {
  auto& closing = runtime().closing_streams;
  for (auto it = closing.begin(); it != closing.end();) {
    if ((*it)->finished() && (!(*it)->tail || (*it)->tail->done())) {
      delete *it;
      it = closing.erase(it);
    } else {
      ++it;
    }
  }
}

CUevent_st* find_event(const char* function, cudaEvent_t handle) {
  {
    Hold hold(runtime().lock);
    if (runtime().events.contains(handle)) return handle;
  }
  if (handle != nullptr) {
    cuda_host::report(std::string(function) + ": event " + cuda_host::hex(handle) + " was destroyed or never created");
  }
  return nullptr;
}

TicketRef last_record(CUevent_st* event) {
  Hold hold(runtime().lock);
  return event->last;
}

cudaError_t poll(const TicketRef& ticket) {
  if (!ticket) return cudaSuccess;
  if (!ticket->done()) return cudaErrorNotReady;
  ticket->see();
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return call("cudaStreamCreate", [&] {
    if (stream == nullptr || (flags & ~cudaStreamNonBlocking) != 0) return cudaErrorInvalidValue;
    auto* created = new CUstream_st(cuda_host::current_device_index(), flags, false, runtime().settings);
    Hold hold(runtime().lock);
    sweep_closing_streams();
    runtime().streams.insert(created);
    *stream = created;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return call("cudaDeviceGetStreamPriorityRange", [&] {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return call("cudaStreamDestroy", [&] {
    if (handle == nullptr) return cudaErrorInvalidResourceHandle;
    CUstream_st* stream = find_stream("cudaStreamDestroy", handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    Hold hold(runtime().lock);
    runtime().streams.erase(stream);
    runtime().closing_streams.insert(stream);
    stream->close();
    sweep_closing_streams();
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return call("cudaStreamSynchronize", [&] {
    CUstream_st* stream = find_stream("cudaStreamSynchronize", handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    TicketRef tail;
    {
      Hold hold(runtime().lock);
      tail = stream->tail;
      ++runtime().waits;
    }
    if (tail) tail->wait();
    cuda_host::check_guards(stream->device);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return call("cudaStreamQuery", [&] {
    CUstream_st* stream = find_stream("cudaStreamQuery", handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    TicketRef tail;
    {
      Hold hold(runtime().lock);
      tail = stream->tail;
    }
    return poll(tail);
  });
}

cudaError_t cudaDeviceSynchronize() {
  return call("cudaDeviceSynchronize", [&] {
    cuda_host::wait_for_device(cuda_host::current_device_index());
    cuda_host::check_guards(cuda_host::current_device_index());
    return cudaSuccess;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned flags) {
  return call("cudaStreamWaitEvent", [&] {
    CUstream_st* stream = find_stream("cudaStreamWaitEvent", handle);
    CUevent_st* event = find_event("cudaStreamWaitEvent", event_handle);
    if (stream == nullptr || event == nullptr) return cudaErrorInvalidResourceHandle;
    if (flags != 0) return cudaErrorInvalidValue;
    if (TicketRef record = last_record(event)) cuda_host::submit(*stream, 0, nullptr, {record});
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* user_data) {
  return call("cudaLaunchHostFunc", [&] {
    if (function == nullptr) return cudaErrorInvalidValue;
    CUstream_st* stream = find_stream("cudaLaunchHostFunc", handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    cuda_host::submit(*stream, 0, cuda_host::make_task([=] { function(user_data); }));
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return call("cudaEventCreate", [&] {
    constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming | cudaEventInterprocess;
    const bool untimed = (flags & cudaEventDisableTiming) != 0;
    if (event == nullptr || (flags & ~kKnown) != 0) return cudaErrorInvalidValue;
    if ((flags & cudaEventInterprocess) != 0 && !untimed) return cudaErrorInvalidValue;
    Hold hold(runtime().lock);
    *event = new CUevent_st{cuda_host::current_device_index(), flags, {}};
    runtime().events.insert(*event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  return call("cudaEventDestroy", [&] {
    CUevent_st* event = find_event("cudaEventDestroy", handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    Hold hold(runtime().lock);
    runtime().events.erase(event);
    delete event;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  return call("cudaEventRecord", [&] {
    CUevent_st* event = find_event("cudaEventRecord", handle);
    CUstream_st* stream = find_stream("cudaEventRecord", stream_handle);
    if (event == nullptr || stream == nullptr || event->device != stream->device) return cudaErrorInvalidResourceHandle;
    TicketRef record = cuda_host::submit(*stream, 0, nullptr);
    Hold hold(runtime().lock);
    event->last = record;
    return cudaSuccess;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return call("cudaEventSynchronize", [&] {
    CUevent_st* event = find_event("cudaEventSynchronize", handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    if (TicketRef record = last_record(event)) record->wait();
    return cudaSuccess;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return call("cudaEventQuery", [&] {
    CUevent_st* event = find_event("cudaEventQuery", handle);
    return event == nullptr ? cudaErrorInvalidResourceHandle : poll(last_record(event));
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start_handle, cudaEvent_t end_handle) {
  return call("cudaEventElapsedTime", [&] {
    if (milliseconds == nullptr) return cudaErrorInvalidValue;
    CUevent_st* start = find_event("cudaEventElapsedTime", start_handle);
    CUevent_st* end = find_event("cudaEventElapsedTime", end_handle);
    if (start == nullptr || end == nullptr) return cudaErrorInvalidResourceHandle;
    if (((start->flags | end->flags) & cudaEventDisableTiming) != 0) return cudaErrorInvalidResourceHandle;
    const TicketRef from = last_record(start), to = last_record(end);
    if (!from || !to) return cudaErrorInvalidResourceHandle;
    if (!from->done() || !to->done()) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(to->time() - from->time()).count();
    return cudaSuccess;
  });
}
