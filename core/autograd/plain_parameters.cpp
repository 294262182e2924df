#include "core/autograd/plain_parameters.h"

#include <algorithm>

#include "core/autograd/ops/common.h"
#include "core/device/host_view.h"

namespace muonp::core {

namespace {

template <class T>
void initialize_value(const Parameter& parameter, std::uint64_t seed, T* to) {
  constexpr std::int64_t kChunk = 1 << 16;
  std::vector<float> chunk(static_cast<std::size_t>(std::min(kChunk, parameter.size())));
  for (std::int64_t begin = 0; begin < parameter.size(); begin += kChunk) {
    const std::int64_t count = std::min(kChunk, parameter.size() - begin);
    initialize(parameter, seed, begin, count, chunk.data());
    const float* from = chunk.data();
    Row{0, count}.each([=](std::int64_t i) { to[begin + i] = T(from[i]); });
  }
}

}  // namespace

PlainParameters::PlainParameters(Device& device, const ParameterList& parameters, Dtype compute)
    : device_(device), parameters_(parameters) {
  for (Parameter* p : parameters_) p->value = Tensor::empty(device, p->shape, compute, Category::weights);
}

PlainParameters::PlainParameters(Device& device, const ParameterList& parameters, Dtype compute, std::uint64_t seed)
    : PlainParameters(device, parameters, compute) {
  for (const Parameter* p : parameters_) {
    const HostView host(device.queue(), p->value, Access::write);
    with_float_type(compute, [&]<class T>(T) { initialize_value(*p, seed, host.data<T>()); });
    host.upload();
  }
}

PlainParameters::~PlainParameters() {
  for (Parameter* p : parameters_) p->value = p->gradient = Tensor();
}

void PlainParameters::start_step() {
  written_.clear();
  completed_.clear();
}

GradientSlot PlainParameters::slot(Parameter& parameter) {
  if (!parameter.gradient) parameter.gradient = Tensor::empty(device_, parameter.shape, Dtype::float32, Category::gradients);
  const bool first = written_.insert(&parameter).second;
  return {parameter.gradient, !first};
}

}  // namespace muonp::core
