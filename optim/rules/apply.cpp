#include "core/device/for_each.h"
#include "optim/rules/rule.h"

namespace muonp::optim {

namespace {

struct Apply {
  float* w;
  const float* u;
  float keep, rate;
  using Elements = core::ElementArrays<&Apply::w, &Apply::u>;
  MUONP_HD void operator()(std::int64_t i) const { w[i] = keep * w[i] - rate * u[i]; }
};

}  // namespace

void apply_update(core::Queue& queue, const core::Tensor& master, const Update& update, double lr, double weight_decay) {
  MUONP_ASSERT(update.values.size() == master.size(), "{} weights, {} updates", master.size(), update.values.size());
  const auto keep = static_cast<float>(1 - lr * weight_decay), rate = static_cast<float>(lr);
  core::for_each(queue, master.size(), Apply{master.data<float>(), update.values.data<float>(), keep, rate});
}

}  // namespace muonp::optim
