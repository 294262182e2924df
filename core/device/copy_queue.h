// Copies between a GPU's memory and pinned memory of the host, on a stream of their own: beside what the device's queue
// does, and by a thread beside the one that gives it work.
#pragma once

#include <memory>

#include "core/device/device.h"

namespace muonp::core {

class CopyQueue {
 public:
  virtual ~CopyQueue() = default;

  // What the device's queue has been given so far; by the thread that gives it work.
  virtual std::shared_ptr<const void> moment() = 0;

  // The rest is for one thread, this or another. Copies that come later start when the device's queue has passed that
  // moment.
  virtual void start_after(const std::shared_ptr<const void>& moment) = 0;
  virtual void read(void* host, const void* from, std::int64_t bytes) = 0;
  virtual void write(void* to, const void* host, std::int64_t bytes) = 0;
  // Returns when all copies have been made.
  virtual void synchronize() = 0;
};

// `device` is a GPU and outlives it.
std::unique_ptr<CopyQueue> make_copy_queue(Device& device);

}  // namespace muonp::core
