// A queue of work that runs beside the caller, in order: communication behind the backward pass.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace muonp::dist {

// Work is run one piece at a time in the order of submission, which is what keeps collectives in the same
// order on all ranks. After a piece has thrown nothing more runs: its ticket, all later tickets, drain() and
// submit() rethrow that exception. Tickets of work that ended before stay good.
class AsyncQueue {
 public:
  enum class Mode : std::uint8_t {
    worker,  // on a thread of its own
    inline_  // in submit(), by the caller; failures are still delivered by wait() and drain()
  };
  struct Ticket {
    std::uint64_t number = 0;  // 0: nothing to wait for
  };

  explicit AsyncQueue(Mode mode);
  // Lets the piece that is running end, discards what has not started, joins. Call drain() first for the
  // orderly way.
  ~AsyncQueue();
  AsyncQueue(const AsyncQueue&) = delete;
  AsyncQueue& operator=(const AsyncQueue&) = delete;

  Ticket submit(std::function<void()> work);
  // Returns when the work of this ticket, and so all before it, has ended.
  void wait(Ticket ticket);
  void drain();

  // Seconds spent running work, and seconds that wait() and drain() stood still, since construction.
  double busy_seconds() const;
  double waited_seconds() const;

 private:
  void run_worker();
  void run(const std::function<void()>& work, std::uint64_t number);
  void throw_if_failed(std::uint64_t number) const;

  Mode mode_;
  mutable std::mutex mutex_;
  std::condition_variable submitted_, ended_;
  std::deque<std::function<void()>> pending_;
  std::uint64_t last_submitted_ = 0, last_ended_ = 0;
  std::uint64_t failed_ = 0;  // number of the piece that threw; 0: none
  std::exception_ptr error_;
  double busy_ = 0, waited_ = 0;
  bool stop_ = false;
  std::thread worker_;
};

}  // namespace muonp::dist
