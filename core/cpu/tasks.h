// Runs independent tasks of unequal length on the queue's threads: task(i) for i in [0, count), the next free
// thread takes the next index. Kernels and products inside a task run on that one thread. The first exception
// is rethrown.
#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>

#include "core/device.h"

namespace muonp::core {

template <class Task>
void run_tasks(Queue& queue, std::int64_t count, const Task& task) {
  if (queue.threads() == 1 || count == 1 || omp_in_parallel()) {
    for (std::int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1) num_threads(queue.threads())
  for (std::int64_t i = 0; i < count; ++i) {
    try {
      task(i);
    } catch (...) {
#pragma omp critical(muonp_run_tasks)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace muonp::core
