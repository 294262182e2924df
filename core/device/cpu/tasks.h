// Runs independent tasks of unequal length on the queue's threads: task(i) for i in [0, count), the next free
// thread takes the next index. Kernels and products inside a task run on that one thread. The first exception
// is rethrown.
//
// run_tasks_on_threads: task(i, thread) is also told which thread of the queue it runs on, from 0; which of an outer team it
// is in does not count.
#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>

#include "core/device/device.h"

namespace muonp::core {

template <class Task>
void run_tasks_on_threads(Queue& queue, std::int64_t count, const Task& task) {
  if (queue.threads() == 1 || count == 1 || omp_in_parallel()) {
    for (std::int64_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1) num_threads(queue.threads())
  for (std::int64_t i = 0; i < count; ++i) {
    try {
      task(i, omp_get_thread_num());
    } catch (...) {
#pragma omp critical(muonp_run_tasks)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

template <class Task>
void run_tasks(Queue& queue, std::int64_t count, const Task& task) {
  run_tasks_on_threads(queue, count, [&task](std::int64_t i, int) { task(i); });
}

}  // namespace muonp::core
