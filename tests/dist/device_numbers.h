// float32 on a device and back.
#pragma once

#include <vector>

#include "core/device/tensor.h"

namespace muonp::test {

inline core::Tensor constant(core::Device& device, std::int64_t count, float value) {
  const std::vector<float> values(static_cast<std::size_t>(count), value);
  const core::Tensor t = core::Tensor::empty(device, {count}, core::Dtype::float32, core::Category::other);
  device.queue().write(t.raw(), values.data(), t.bytes());
  return t;
}

inline std::vector<float> read(core::Device& device, const core::Tensor& t) {
  std::vector<float> values(static_cast<std::size_t>(t.size()));
  device.queue().read(values.data(), t.raw(), t.bytes());
  return values;
}

}  // namespace muonp::test
