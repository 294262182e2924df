#include "dist/comm/async.h"

#include "core/base/error.h"

namespace muonp::dist {

AsyncQueue::AsyncQueue(Mode mode, core::Stopwatch* waits) : mode_(mode), waits_(waits) {
  MUONP_ASSERT(mode_ != Mode::stream, "a queue of stream operations needs their communicator");
  if (mode_ == Mode::worker) worker_ = std::thread([this] { run_worker(); });
}

AsyncQueue::AsyncQueue(Communicator& communicator, core::Stopwatch* waits)
    : mode_(Mode::stream), communicator_(&communicator), waits_(waits) {}

AsyncQueue::~AsyncQueue() {
  if (mode_ == Mode::stream) try {
      communicator_->wait_for(last_mark_);
    } catch (...) {  // the communicator has failed: nothing is under way
    }
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
  stand_still([&] { run(work, number); });
  return {number};
}

void AsyncQueue::stand_still(const std::function<void()>& until) {
  if (waits_ != nullptr) return waits_->time(until);
  until();
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
  std::exception_ptr error;
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
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
  const auto has_ended = [&] { return last_ended_ >= ticket.number || failed_ != 0; };
  if (!has_ended()) stand_still([&] { ended_.wait(lock, has_ended); });
  throw_if_failed(ticket.number);
  lock.unlock();
  if (mode_ == Mode::stream && ticket.mark.number > 0) stand_still([&] { communicator_->wait_for(ticket.mark); });
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

}  // namespace muonp::dist
