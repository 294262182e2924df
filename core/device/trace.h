// When the parts of a rank's work begin and end. A Phase is such a part: a range of NVTX, which NVIDIA's tools show, and a
// span of the Trace of its thread while there is one.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/device/device.h"

namespace muonp::core {

class Trace {
 public:
  // The host's thread; the device's queue; operations between ranks, on a stream or thread of their own or the host's.
  enum class Lane : std::uint8_t { host, compute, communication };
  struct Span {
    Lane lane;
    std::string name;
    double begin, end;  // seconds since start()
  };

  // Of the phases of this thread, which has no other trace. The queue must outlive it.
  explicit Trace(Queue& queue);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;
  // That of the calling thread, or null.
  static Trace* current();

  // Waits until the queue has done what it was given. All lanes count from this moment; before it nothing is recorded.
  void start();
  bool started() const { return started_; }
  Queue& queue() { return queue_; }

  // By any thread. Between moments of the device, on whichever of its streams; or of core::seconds_now().
  void add(Lane lane, std::string name, std::unique_ptr<TimePoint> begin, std::unique_ptr<TimePoint> end);
  void add(Lane lane, std::string name, double begin, double end);

  // In the order of their begins, what holds others before them; waits until the device has passed the last. A GPU says
  // how long after start() a moment was in milliseconds of single precision: to 1 µs for the first 10 s.
  std::vector<Span> spans() const;

 private:
  struct OnDevice {
    Lane lane;
    std::string name;
    std::unique_ptr<TimePoint> begin, end;
  };
  Queue& queue_;
  std::atomic<bool> started_ = false;
  std::unique_ptr<TimePoint> origin_;
  double host_origin_ = 0;
  mutable std::mutex mutex_;
  std::vector<Span> on_host_;
  std::vector<OnDevice> on_device_;
};

// From its construction to end() or its destruction, on the thread of both; phases nest.
class Phase {
 public:
  explicit Phase(const char* name);
  ~Phase() { end(); }
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;
  void end();

 private:
  const char* name_;  // null when it has ended
  Trace* trace_;      // null where none was running
  double host_begin_ = 0;
  std::unique_ptr<TimePoint> begin_;
};

}  // namespace muonp::core
