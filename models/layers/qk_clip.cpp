#include "models/layers/qk_clip.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/device/host_view.h"
#include "models/layers/model_keys.h"

namespace muonp::models {

using core::at;

namespace {

constexpr std::array<std::string_view, 2> kSharedKeys = {"keep", "scale"};

void add_scales(const HeadRows& rows, std::int64_t size, std::span<const double> factors,
                std::vector<core::ScaledElements>& to) {
  for (const core::Parameter* p : {rows.layer.weight, rows.layer.bias}) {
    if (p == nullptr) continue;
    const std::int64_t of_row = p->size() / p->shape[0];
    for (std::int64_t h = 0; h < std::ssize(factors); ++h)
      if (const std::int64_t first = rows.first_row + h * size; factors[at(h)] != 1)
        to.push_back({p, first * of_row, (first + size) * of_row, factors[at(h)]});
  }
}

}  // namespace

void QkClipConfig::describe(core::Fields& f) {
  f.boolean("enabled", enabled, "after a step, scale queries and keys of heads whose largest attention logit is above tau");
  f.real("tau", tau, {}, "the largest attention logit that is left as it is, above 0");
  f.real("alpha", alpha, {.min = 0, .max = 1}, "power of the factor that queries take; keys take the rest");
  f.choice("shared_keys", shared_keys, kSharedKeys,
           "keys that several heads of queries read: keep leaves them and scales queries alone, scale scales both");
}

void QkClipConfig::check() const {
  if (!(tau > 0) || !std::isfinite(tau))
    core::fail(
        "model.qk_clip.tau: {} cannot bound attention logits: it has to be a finite number above 0. MuonClip's is 100, and "
        "model.qk_clip.enabled: false leaves logits as they are",
        tau);
  if (!(alpha >= 0 && alpha <= 1))
    core::fail("model.qk_clip.alpha: {} is not between 0 (keys take all of the factor) and 1 (queries do); half is usual",
               alpha);
  require_choice("qk_clip.shared_keys", shared_keys, kSharedKeys);
  const QkClipConfig usual;
  if (!enabled && (tau != usual.tau || alpha != usual.alpha || shared_keys != usual.shared_keys))
    core::fail("model.qk_clip has keys, but no effect: set model.qk_clip.enabled: true, or leave them out");
}

HeadFactors head_factors(const QkClipConfig& config, const core::AttentionHeads& heads, std::span<const double> largest) {
  MUONP_ASSERT(std::ssize(largest) == heads.queries, "{} logits of {} heads", largest.size(), heads.queries);
  const bool keep = heads.group() > 1 && config.shared_keys == "keep";
  HeadFactors factors{std::vector<double>(at(heads.queries), 1.0), std::vector<double>(at(heads.keys), 1.0)};
  for (std::int64_t h = 0; h < heads.queries; ++h)
    factors.queries[at(h)] = std::min(1.0, config.tau / std::max(largest[at(h)], config.tau));
  if (keep) return factors;
  for (std::int64_t k = 0; k < heads.keys; ++k) {
    const std::span<double> group(factors.queries.data() + k * heads.group(), at(heads.group()));
    factors.keys[at(k)] = std::pow(std::ranges::min(group), 1 - config.alpha);
    for (double& query : group) query /= factors.keys[at(k)];
  }
  return factors;
}

const core::Tensor& QkClip::raised(core::Device& device) {
  if (!raised_)
    raised_ =
        core::Tensor::empty(device, {std::ssize(layers_), heads_.queries}, core::Dtype::float32, core::Category::other);
  if (fresh_) {
    const core::HostView values(device.queue(), raised_, core::Access::write);
    std::ranges::fill(values.span<float>(), -std::numeric_limits<float>::infinity());
    values.upload();
  }
  fresh_ = false;
  return raised_;
}

std::vector<double> QkClip::largest(core::Queue& queue) const {
  MUONP_ASSERT(raised_ && !fresh_, "no pass has been made whose logits count");
  const core::HostView values(queue, raised_, core::Access::read);
  return {values.span<float>().begin(), values.span<float>().end()};
}

std::vector<core::ScaledElements> QkClip::scales(std::span<const double> largest) const {
  MUONP_ASSERT(std::ssize(largest) == std::ssize(layers_) * heads_.queries, "{} logits of {} layers", largest.size(),
               layers_.size());
  std::vector<core::ScaledElements> all;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const HeadFactors factors = head_factors(config_, heads_, largest.subspan(i * at(heads_.queries), at(heads_.queries)));
    add_scales(layers_[i].queries, heads_.size, factors.queries, all);
    add_scales(layers_[i].keys, heads_.size, factors.keys, all);
  }
  return all;
}

std::int64_t QkClip::clipped(std::span<const double> largest) const {
  return std::ranges::count_if(largest, [this](double logit) { return logit > config_.tau; });
}

}  // namespace muonp::models
