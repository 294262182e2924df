#include "optim/engine/weight_scales.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/device/for_each.h"
#include "core/device/offload.h"

namespace muonp::optim {

namespace {

struct Scale {
  float* w;
  float factor;
  using Elements = core::ElementArrays<&Scale::w>;
  MUONP_HD void operator()(std::int64_t i) const { w[i] *= factor; }
};

}  // namespace

std::vector<WeightScales> scales_by_parameter(const core::ParameterList& parameters, const WeightScales& scales) {
  std::vector<WeightScales> all(parameters.size());
  for (const core::ScaledElements& s : scales) {
    const auto found = std::ranges::find(parameters, s.parameter);
    MUONP_ASSERT(found != parameters.end(), "{} is to be scaled, and is not trained", s.parameter->name);
    all[core::at(found - parameters.begin())].push_back(s);
  }
  return all;
}

void scale_elements(core::Device& device, const core::Tensor& values, dist::Interval kept, const WeightScales& scales) {
  for (const core::ScaledElements& s : scales) {
    const std::int64_t begin = std::max(s.begin, kept.begin), end = std::min(s.end, kept.end);
    if (begin >= end) continue;
    core::compute_in_pieces(
        device, {values.flat(begin - kept.begin, end - begin)}, core::Pieces::changed,
        [&](std::int64_t, std::int64_t count, std::span<const core::Tensor> piece) {
          core::for_each(device.queue(), count, Scale{piece[0].data<float>(), static_cast<float>(s.factor)});
        });
  }
}

}  // namespace muonp::optim
