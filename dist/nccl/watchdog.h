// What is under way on the communication stream, oldest first, and a thread that says so when it stands
// still.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/device/cuda/handle.h"

namespace muonp::dist {

class NcclWatchdog {
 public:
  struct Report {
    std::string what;        // "all_reduce(sum) of 8 float32 (operation 3) made no progress for 2 s"
    std::string guess = {};  // why that may be, where nobody knows better
    bool of_here = false;    // this GPU failed; else other ranks are, or may be, the reason
    bool waited = false;     // for at least half the time-out, in which this process ran
  };
  struct Outside {
    std::function<std::string()> error;  // of NCCL, or an empty string
    std::function<bool()> asked;         // another rank has waited for too long, and asks who is there
    std::function<void(const Report&)> fail;
  };
  // From a thread of its own: asks for errors, again and again; `fail` is told, once, why the communicator must end: NCCL's
  // error, a failed GPU, an operation that has not ended `timeout_seconds` after the stream came to it, here or on a
  // rank that asks. Computation that it is queued behind may take longer.
  NcclWatchdog(int device, double timeout_seconds, Outside outside);
  ~NcclWatchdog();
  NcclWatchdog(const NcclWatchdog&) = delete;
  NcclWatchdog& operator=(const NcclWatchdog&) = delete;

  // Around each operation, by one thread: begin, put it on the stream, issued.
  void begin(std::string what, cudaStream_t stream);
  void issued(cudaStream_t stream);
  // Number of the last operation that was begun, from 1; 0 before.
  std::uint64_t last() const;
  // `stream` waits for operation `number`, and so all before it, where it may still be running; for none that came later.
  void make_wait(cudaStream_t stream, std::uint64_t number);
  // Returns when all operations have ended, or the thread has called `fail`: then false.
  bool drain();

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    std::uint64_t number;
    std::string what;
    core::cuda::Event start, end;  // the stream comes to it, and has done it
    bool issued = false, started = false;
  };
  void watch(int device);
  void retire();  // with the lock
  bool has_come(const core::cuda::Event& event);
  core::cuda::Event take_event();
  std::optional<Report> look(const std::string& error, bool asked);  // with the lock
  std::string where() const;  // "all_reduce(sum) of 8 float32 (operation 3)": the oldest, or the last one

  std::chrono::duration<double> timeout_;
  Outside outside_;
  mutable std::mutex mutex_;
  std::condition_variable woken_;
  std::deque<Entry> entries_;
  std::vector<core::cuda::Event> spare_;
  std::uint64_t last_ = 0;
  std::string last_what_;
  // When the stream was seen to have come to the oldest entry, and later by as long as this process was stopped.
  Clock::time_point started_;
  Clock::time_point looked_ = Clock::now();
  bool was_away_ = false;  // stopped while the oldest entry was under way
  std::string broken_;     // what the GPU said
  bool stop_ = false, failed_ = false;
  std::thread thread_;
};

}  // namespace muonp::dist
