// A device is where one rank computes: an allocator and a queue. Every kernel, product and copy takes the queue it
// runs on.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "core/device/allocator.h"

namespace muonp::core {

enum class DeviceKind : std::uint8_t { cpu, cuda };

class Device;
struct Product;  // core/device/blas.h

// A moment in a queue's work.
class TimePoint {
 public:
  virtual ~TimePoint() = default;
  // Between two moments of one queue; waits until the queue has passed this one.
  virtual double seconds_since(const TimePoint& earlier) const = 0;
};

// Work submitted to one queue happens in order. Work on a queue and the host is ordered by synchronize(), read() and
// write() only. The CPU's queue runs everything before submission returns.
class Queue {
 public:
  virtual ~Queue() = default;
  virtual DeviceKind kind() const = 0;
  virtual Device& device() = 0;
  virtual bool emulates_bfloat16() const { return false; }
  virtual int threads() const = 0;  // CPU: OpenMP threads of this rank; 1 elsewhere
  virtual void synchronize() = 0;
  // When all that was submitted before has been done.
  virtual std::unique_ptr<TimePoint> now() = 0;
  virtual void copy(void* to, const void* from, std::int64_t bytes) = 0;  // same device; must not overlap
  virtual void fill_zero(void* to, std::int64_t bytes) = 0;
  // Between host memory and this device's. read() returns when the host has the bytes, write() when `from` may be
  // changed.
  virtual void read(void* host, const void* from, std::int64_t bytes) = 0;
  virtual void write(void* to, const void* host, std::int64_t bytes) = 0;
  // For gemm() and gemm_batched(), which check first. Products i in [0, count): operands A, B and C of the i-th begin
  // i·batch_strides elements after those of the first.
  virtual void multiply(const Product& first, std::int64_t count, const std::array<std::int64_t, 3>& batch_strides) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceKind kind() const = 0;
  virtual std::string name() const = 0;  // as shown in the start-up table
  // A GPU's own, the same in every process that sees it: "node7/0000:3b:00.0". Empty for a CPU.
  virtual std::string identity() const { return {}; }
  virtual Queue& queue() = 0;
  virtual const std::shared_ptr<Allocator>& allocator() = 0;
  // Of host memory that the device copies from and to at full speed: pinned for a GPU, counted apart; a CPU's own.
  virtual const std::shared_ptr<Allocator>& host_allocator() { return allocator(); }
};

// How a CPU device multiplies bfloat16 matrices: with the processor's instructions, or (to run bfloat16 code on any
// processor, slowly) in float32 with operands and results rounded to bfloat16.
enum class Bfloat16 : std::uint8_t { native, emulated };

// threads ≥ 1, or 0 for as many as this process may keep busy and OpenMP starts. Sets the calling thread's OpenMP team size.
// Error where OpenMP starts fewer than were asked for (OMP_THREAD_LIMIT, nested regions).
std::unique_ptr<Device> make_cpu_device(int threads, Bfloat16 bfloat16 = Bfloat16::native);

// Whether this build has a back end for GPUs.
bool cuda_is_built();
// Why a GPU cannot be used in this process (not built in, no driver, driver too old, no device), or an empty string.
std::string cuda_refusal();
// GPUs that this process sees; 0 where cuda_refusal() says why.
int cuda_device_count();

// GPU `ordinal` of this process, current on the calling thread from here on. Error where cuda_refusal() says so or the
// ordinal is not there. `owner` is who errors name: "rank 3 on node7".
std::unique_ptr<Device> make_cuda_device(int ordinal, const std::string& owner);

// Threads that this process may keep busy: its cores, and no more than its control groups' quota (core/base/processors.h).
int available_cores();

}  // namespace muonp::core
