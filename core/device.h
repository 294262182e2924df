// A device is where one rank computes: an allocator and a queue. Every kernel, product and copy takes the queue it
// runs on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/allocator.h"

namespace muonp::core {

enum class DeviceKind : std::uint8_t { cpu, cuda };

// Work submitted to one queue happens in order. Work on two queues, or on a queue and the host, is ordered by
// synchronize() only (and by events, on devices that have several queues). The CPU's queue runs everything before
// submission returns.
class Queue {
 public:
  virtual ~Queue() = default;
  virtual DeviceKind kind() const = 0;
  virtual bool emulates_bfloat16() const { return false; }
  virtual int threads() const = 0;  // CPU: OpenMP threads of this rank
  virtual void synchronize() = 0;
  virtual void copy(void* to, const void* from, std::int64_t bytes) = 0;  // same device; must not overlap
  virtual void fill_zero(void* to, std::int64_t bytes) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceKind kind() const = 0;
  virtual std::string name() const = 0;  // as shown in the start-up table
  virtual Queue& queue() = 0;
  virtual const std::shared_ptr<Allocator>& allocator() = 0;
};

// How a CPU device multiplies bfloat16 matrices: with the processor's instructions, or (to run bfloat16 code on any
// processor, slowly) in float32 with operands and results rounded to bfloat16.
enum class Bfloat16 : std::uint8_t { native, emulated };

// threads ≥ 1, or 0 for all cores this process may use. Sets the calling thread's OpenMP team size.
std::unique_ptr<Device> make_cpu_device(int threads, Bfloat16 bfloat16 = Bfloat16::native);

// Cores this process may run on.
int available_cores();

}  // namespace muonp::core
