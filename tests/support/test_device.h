// The device that a unit test computes on, and how the test sees what lies there. MUONP_TEST_DEVICE=cuda in
// the environment takes GPU 0 (or what stands in for it), cpu or nothing the CPU. Tests touch a device's
// memory through these helpers only; host tensors (core::Tensor::on_host: token ids) are read as they are.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/device/host_view.h"

namespace muonp::test {

// Devices of this thread's tests, the newest last.
inline thread_local std::vector<core::Device*> live_devices;

struct DeleteTestDevice {
  void operator()(core::Device* device) const {
    std::erase(live_devices, device);
    delete device;
  }
};
using TestDevice = std::unique_ptr<core::Device, DeleteTestDevice>;

inline TestDevice remember(std::unique_ptr<core::Device> device) {
  live_devices.push_back(device.get());
  return TestDevice(device.release());
}

inline core::DeviceKind test_device_kind() {
  const char* value = std::getenv("MUONP_TEST_DEVICE");
  const std::string name = value ? value : "cpu";
  if (name != "cpu" && name != "cuda") core::fail("MUONP_TEST_DEVICE={}: valid are cpu and cuda", name);
  return name == "cuda" ? core::DeviceKind::cuda : core::DeviceKind::cpu;
}
inline bool on_gpu() { return test_device_kind() == core::DeviceKind::cuda; }
// On a GPU itself, not on what stands in for it.
inline bool on_real_gpu() {
#ifdef MUONP_CUDA_HOST
  return false;
#else
  return on_gpu();
#endif
}

// The CPU whatever the environment says, for tests of the CPU itself.
inline TestDevice make_cpu_test_device(int threads = 2, core::Bfloat16 bfloat16 = core::Bfloat16::native) {
  return remember(core::make_cpu_device(threads, bfloat16));
}
// `threads` and `bfloat16` are the CPU's.
inline TestDevice make_test_device(int threads = 2, core::Bfloat16 bfloat16 = core::Bfloat16::native) {
  return on_gpu() ? remember(core::make_cuda_device(0, "test")) : make_cpu_test_device(threads, bfloat16);
}

// The newest device, whose memory the helpers below see.
inline core::Device& test_device() {
  MUONP_ASSERT(!live_devices.empty(), "no test device on this thread");
  return *live_devices.back();
}
// Its queue, when all devices of the test have done what was submitted: a tensor of one may be read through
// another.
inline core::Queue& test_queue() {
  core::Device& newest = test_device();
  for (core::Device* device : live_devices) device->queue().synchronize();
  return newest.queue();
}

template <class T = float>
std::vector<T> values_of(const core::Tensor& t) {
  const core::HostView view(test_queue(), t, core::Access::read);
  return {view.data<T>(), view.data<T>() + t.size()};
}
// Of float32 or bfloat16.
inline std::vector<float> floats_of(const core::Tensor& t) {
  if (t.dtype() == core::Dtype::float32) return values_of(t);
  const std::vector<core::bfloat16> narrow = values_of<core::bfloat16>(t);
  return {narrow.begin(), narrow.end()};
}
// Element i in row-major order.
template <class T = float>
T value_of(const core::Tensor& t, std::int64_t i = 0) {
  return values_of<T>(t.flat(i, 1))[0];
}
template <class T>
void set_values(const core::Tensor& t, const std::vector<T>& values) {
  MUONP_ASSERT(t.size() == static_cast<std::int64_t>(values.size()), "{} values for a tensor of shape {}", values.size(),
               core::to_string(t.shape()));
  const core::HostView view(test_queue(), t, core::Access::write);
  std::copy(values.begin(), values.end(), view.data<T>());
  view.upload();
}
template <class T>
void set_value(const core::Tensor& t, std::int64_t i, T value) {
  set_values(t.flat(i, 1), std::vector<T>{value});
}
template <class T>
void fill(const core::Tensor& t, T value) {
  set_values(t, std::vector<T>(static_cast<std::size_t>(t.size()), value));
}

inline std::string bytes_of(const core::Tensor& t) {
  const core::HostView view(test_queue(), t, core::Access::read);
  return {static_cast<const char*>(view.raw()), static_cast<std::size_t>(t.bytes())};
}
inline bool same_bytes(const core::Tensor& a, const core::Tensor& b) { return bytes_of(a) == bytes_of(b); }

}  // namespace muonp::test
