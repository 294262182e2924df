// A queue of work that runs beside the caller, in order: communication behind the backward pass.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/device/stopwatch.h"
#include "dist/comm/communicator.h"

namespace muonp::dist {

// Work is run one piece at a time in the order of submission, which is what keeps collectives in the same
// order on all ranks. After a piece has thrown nothing more runs: its ticket, all later tickets, drain() and
// submit() rethrow that exception. Tickets of work that ended before stay good.
class AsyncQueue {
 public:
  enum class Mode : std::uint8_t {
    worker,   // on a thread of its own
    inline_,  // in submit(), by the caller; failures are still delivered by wait() and drain()
    stream    // in submit(), as operations that overlap the device's queue; wait() and drain() make the queue
              // wait, not the host
  };
  struct Ticket {
    std::uint64_t number = 0;  // 0: nothing to wait for
    Mark mark = {};            // of Mode::stream
  };

  // worker or inline_. `waits` times the caller while it stands still for work: in wait() and drain(), and in submit() of
  // inline_. On a GPU it is the device's queue that stands still.
  explicit AsyncQueue(Mode mode, core::Stopwatch* waits = nullptr);
  // stream: work calls operations of this communicator only.
  explicit AsyncQueue(Communicator& communicator, core::Stopwatch* waits = nullptr);
  // Lets the piece that is running end, discards what has not started, joins; stream: the device's queue waits for all
  // that was submitted. Destroy the queue before the memory that its work refers to, and before what the work captures.
  // Call drain() first for the orderly way.
  ~AsyncQueue();
  AsyncQueue(const AsyncQueue&) = delete;
  AsyncQueue& operator=(const AsyncQueue&) = delete;

  Ticket submit(std::function<void()> work);
  // Returns when the work of this ticket, and so all before it, has ended; stream: for the device's queue.
  void wait(Ticket ticket);
  void drain();

 private:
  void run_worker();
  Ticket run_overlapped(const std::function<void()>& work, std::uint64_t number);
  void run(const std::function<void()>& work, std::uint64_t number);
  void stand_still(const std::function<void()>& until);
  void throw_if_failed(std::uint64_t number) const;

  Mode mode_;
  Communicator* communicator_ = nullptr;  // of Mode::stream
  core::Stopwatch* waits_;                // may be null
  Mark last_mark_;
  mutable std::mutex mutex_;
  std::condition_variable submitted_, ended_;
  std::deque<std::function<void()>> pending_;
  std::uint64_t last_submitted_ = 0, last_ended_ = 0;
  std::uint64_t failed_ = 0;  // number of the piece that threw; 0: none
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread worker_;
};

// Work under way refers to memory of the caller: lets it end before that goes, also when something throws.
class DrainOnError {
 public:
  explicit DrainOnError(AsyncQueue& async) : async_(async) {}
  ~DrainOnError() {
    if (!done_) try {
        async_.drain();
      } catch (...) {  // the error that is already on its way says more
      }
  }
  DrainOnError(const DrainOnError&) = delete;
  DrainOnError& operator=(const DrainOnError&) = delete;
  void done() { done_ = true; }  // all of it has been waited for

 private:
  AsyncQueue& async_;
  bool done_ = false;
};

}  // namespace muonp::dist
