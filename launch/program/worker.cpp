#include "launch/program/worker.h"

#include <utility>

#include "core/base/error.h"

namespace muonp::launch {

Worker::Worker() : thread_([this] { serve(); }) {}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  given_.notify_one();
  thread_.join();
}

std::future<void> Worker::run(std::function<void()> work) {
  std::packaged_task<void()> task(std::move(work));
  std::future<void> result = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    MUONP_ASSERT(!task_.valid(), "work is given to a worker that has not begun the work before");
    task_ = std::move(task);
  }
  given_.notify_one();
  return result;
}

void Worker::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    given_.wait(lock, [this] { return end_ || task_.valid(); });
    if (!task_.valid()) return;
    std::packaged_task<void()> task = std::exchange(task_, {});
    lock.unlock();
    task();
    lock.lock();
  }
}

}  // namespace muonp::launch
