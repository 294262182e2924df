// A thread that is there from the start, for work beside the training thread: where the system allows no more threads, the
// run ends before its first step and not when there is something to save.
#pragma once

#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

namespace muonp::launch {

class Worker {
 public:
  Worker();   // std::system_error where the system refuses a thread
  ~Worker();  // waits for the work under way
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Hands `work` to the thread. One at a time: the work before has ended.
  std::future<void> run(std::function<void()> work);

 private:
  void serve();
  std::mutex mutex_;
  std::condition_variable given_;
  std::packaged_task<void()> task_;
  bool end_ = false;
  std::thread thread_;
};

}  // namespace muonp::launch
