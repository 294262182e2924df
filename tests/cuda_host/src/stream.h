// Streams, their operations, and tickets: the completion of one operation.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "cuda_host.h"
#include "driver_types.h"
#include "lock.h"

namespace cuda_host {

// Counted by hand: std::shared_ptr's counter may come from an instrumented file, and would order threads.
class TicketRef;

class Ticket {
 public:
  static TicketRef create();
  bool done() const { return done_.load(std::memory_order_acquire) != 0; }
  void finish();  // publishes to those that wait
  void wait();    // until finished; then sees what came before
  void see() { happens_after(this); }
  std::chrono::steady_clock::time_point time() const { return time_; }

  void retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    IgnoredBySanitizer ignored;
    delete this;
  }

 private:
  std::atomic<uint32_t> done_{0};
  std::atomic<uint32_t> references_{0};
  std::chrono::steady_clock::time_point time_;
};

class TicketRef {
 public:
  TicketRef() = default;
  explicit TicketRef(Ticket* ticket) : ticket_(ticket) {
    if (ticket_ != nullptr) ticket_->retain();
  }
  TicketRef(const TicketRef& other) : TicketRef(other.ticket_) {}
  TicketRef(TicketRef&& other) noexcept : ticket_(std::exchange(other.ticket_, nullptr)) {}
  TicketRef& operator=(TicketRef other) noexcept {
    std::swap(ticket_, other.ticket_);
    return *this;
  }
  ~TicketRef() {
    if (ticket_ != nullptr) ticket_->release();
  }
  Ticket* operator->() const { return ticket_; }
  Ticket* get() const { return ticket_; }
  explicit operator bool() const { return ticket_ != nullptr; }

 private:
  Ticket* ticket_ = nullptr;
};

class Task {
 public:
  virtual ~Task() = default;
  virtual void run() = 0;
};

template <class Function>
std::unique_ptr<Task> make_task(Function function) {
  class Stored final : public Task {
   public:
    explicit Stored(Function f) : function_(std::move(f)) {}
    void run() override { function_(); }

   private:
    Function function_;
  };
  return std::make_unique<Stored>(std::move(function));
}

// The devices whose memory an operation touches, a bit for each.
using DeviceMask = uint64_t;
inline constexpr DeviceMask device_bit(int device) { return DeviceMask{1} << device; }

struct Operation {
  TicketRef ticket;
  std::vector<TicketRef> waits;
  std::unique_ptr<Task> task;
};

// Puts a task behind what `stream` holds already; it starts after `waits`, and after the legacy stream's
// rules. In inline mode it has run, with the memory of `devices` accessible, on return.
TicketRef submit(CUstream_st& stream, DeviceMask devices, std::unique_ptr<Task> task, std::vector<TicketRef> waits = {});

// The stream of this handle (null: the current device's legacy stream); null after reporting where there is
// none.
CUstream_st* find_stream(const char* function, cudaStream_t handle);
// Waits for all work given to the device so far.
void wait_for_device(int device);

}  // namespace cuda_host

struct CUstream_st {
 public:
  CUstream_st(int device, unsigned flags, bool legacy, const cuda_host::Settings& settings);

  const int device;
  const bool legacy;
  const bool blocking;        // ordered with the legacy stream
  cuda_host::TicketRef tail;  // of the last operation; under the runtime's lock

  void push(cuda_host::Operation operation);
  void close();  // ends the thread when the queue is empty
  bool finished() const { return finished_.load(std::memory_order_acquire) != 0; }
  void wait_finished() { cuda_host::wait_while(finished_, 0); }

 private:
  void serve();
  void delay();

  cuda_host::Lock lock_;
  std::deque<cuda_host::Operation> queue_;
  std::atomic<uint32_t> changes_{0};
  std::atomic<uint32_t> finished_{0};
  bool closing_ = false;
  uint64_t random_;
  unsigned max_delay_us_;
};

struct CUevent_st {
  int device;
  unsigned flags;
  cuda_host::TicketRef last;  // the most recent record; under the runtime's lock
};
