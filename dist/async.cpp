#include "dist/async.h"

#include <chrono>

#include "core/error.h"

namespace muonp::dist {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

AsyncQueue::AsyncQueue(Mode mode) : mode_(mode) {
  MUONP_ASSERT(mode_ != Mode::stream, "a queue of stream operations needs their communicator");
  if (mode_ == Mode::worker) worker_ = std::thread([this] { run_worker(); });
}

AsyncQueue::AsyncQueue(Communicator& communicator) : mode_(Mode::stream), communicator_(&communicator) {}

AsyncQueue::~AsyncQueue() {
  if (!worker_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    submitted_.notify_one();
  }
  worker_.join();
}

AsyncQueue::Ticket AsyncQueue::submit(std::function<void()> work) {
  MUONP_ASSERT(work != nullptr, "empty work");
  std::uint64_t number;
  {
    const std::lock_guard lock(mutex_);
    number = last_submitted_ + 1;
    throw_if_failed(number);
    last_submitted_ = number;
    if (mode_ == Mode::worker) {
      pending_.push_back(std::move(work));
      submitted_.notify_one();
      return {number};
    }
  }
  if (mode_ == Mode::stream) return run_overlapped(work, number);
  run(work, number);
  return {number};
}

AsyncQueue::Ticket AsyncQueue::run_overlapped(const std::function<void()>& work, std::uint64_t number) {
  std::exception_ptr error;
  try {
    communicator_->begin_overlap();
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    last_mark_ = communicator_->end_overlap();
  } catch (...) {
    if (!error) error = std::current_exception();
  }
  last_ended_ = number;
  if (error) {
    failed_ = number;
    error_ = error;
  }
  return {number, last_mark_};
}

void AsyncQueue::run(const std::function<void()>& work, std::uint64_t number) {
  const auto start = Clock::now();
  std::exception_ptr error;
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  busy_ += seconds_since(start);
  last_ended_ = number;
  if (error) {
    failed_ = number;
    error_ = error;
    pending_.clear();
  }
  ended_.notify_all();
}

void AsyncQueue::run_worker() {
  for (;;) {
    std::function<void()> work;
    std::uint64_t number;
    {
      std::unique_lock lock(mutex_);
      submitted_.wait(lock, [this] { return stop_ || !pending_.empty(); });
      if (stop_) return;
      work = std::move(pending_.front());
      pending_.pop_front();
      number = last_ended_ + 1;
    }
    run(work, number);
  }
}

void AsyncQueue::wait(Ticket ticket) {
  std::unique_lock lock(mutex_);
  MUONP_ASSERT(ticket.number <= last_submitted_, "ticket {} of {}", ticket.number, last_submitted_);
  const auto start = Clock::now();
  ended_.wait(lock, [&] { return last_ended_ >= ticket.number || failed_ != 0; });
  if (mode_ != Mode::stream) waited_ += seconds_since(start);
  throw_if_failed(ticket.number);
  lock.unlock();
  if (mode_ == Mode::stream) communicator_->wait_for(ticket.mark);
}

void AsyncQueue::drain() {
  std::unique_lock lock(mutex_);
  const Ticket last{last_submitted_, last_mark_};
  lock.unlock();
  wait(last);
}

void AsyncQueue::throw_if_failed(std::uint64_t number) const {
  if (failed_ != 0 && number >= failed_) std::rethrow_exception(error_);
}

double AsyncQueue::busy_seconds() const {
  const std::lock_guard lock(mutex_);
  return busy_;
}

double AsyncQueue::waited_seconds() const {
  const std::lock_guard lock(mutex_);
  return waited_;
}

}  // namespace muonp::dist
