#include "core/device/device.h"

#include <omp.h>

#include <chrono>
#include <cstring>
#include <fstream>

#include "core/base/error.h"
#include "core/base/processors.h"
#include "core/device/cpu/blas.h"
#include "core/device/cpu/team.h"

namespace muonp::core {

int available_cores() { return processors().usable(); }

namespace {

class HostTimePoint final : public TimePoint {
 public:
  double seconds_since(const TimePoint& earlier) const override {
    return std::chrono::duration<double>(at_ - static_cast<const HostTimePoint&>(earlier).at_).count();
  }

 private:
  std::chrono::steady_clock::time_point at_ = std::chrono::steady_clock::now();
};

class CpuQueue final : public Queue {
 public:
  CpuQueue(Device& device, int threads, Bfloat16 bfloat16) : device_(device), threads_(threads), bfloat16_(bfloat16) {}
  DeviceKind kind() const override { return DeviceKind::cpu; }
  Device& device() override { return device_; }
  int threads() const override { return threads_; }
  bool emulates_bfloat16() const override { return bfloat16_ == Bfloat16::emulated; }
  void synchronize() override {}
  std::unique_ptr<TimePoint> now() override { return std::make_unique<HostTimePoint>(); }
  void copy(void* to, const void* from, std::int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
  void fill_zero(void* to, std::int64_t bytes) override {
    if (bytes > 0) std::memset(to, 0, static_cast<std::size_t>(bytes));
  }
  void read(void* host, const void* from, std::int64_t bytes) override { copy(host, from, bytes); }
  void write(void* to, const void* host, std::int64_t bytes) override { copy(to, host, bytes); }
  void multiply(const Product& first, std::int64_t count, const std::array<std::int64_t, 3>& batch_strides) override {
    cpu::multiply(*this, first, count, batch_strides);
  }

 private:
  Device& device_;
  int threads_;
  Bfloat16 bfloat16_;
};

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "CPU";
}

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, Bfloat16 bfloat16) : queue_(*this, threads, bfloat16), allocator_(make_cpu_allocator()) {
    omp_set_dynamic(0);  // a busy machine gives no fewer
    omp_set_num_threads(threads);
    if (const int counted = cpu::counted_team(threads); counted < threads)
      fail("{} threads were asked for, but OpenMP starts {} ({}); ask for {}, for 0 to take what there is, or change that",
           threads, counted, cpu::what_limits_teams(threads), counted);
  }
  DeviceKind kind() const override { return DeviceKind::cpu; }
  std::string name() const override {
    return fmt::format("{}, {} thread{}{}", processor_name(), queue_.threads(), queue_.threads() == 1 ? "" : "s",
                       queue_.emulates_bfloat16() ? ", bfloat16 emulated" : "");
  }
  Queue& queue() override { return queue_; }
  const std::shared_ptr<Allocator>& allocator() override { return allocator_; }

 private:
  CpuQueue queue_;
  std::shared_ptr<Allocator> allocator_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(int threads, Bfloat16 bfloat16) {
  MUONP_ASSERT(threads >= 0, "{} threads", threads);
  return std::make_unique<CpuDevice>(threads == 0 ? cpu::counted_team(available_cores()) : threads, bfloat16);
}

}  // namespace muonp::core
