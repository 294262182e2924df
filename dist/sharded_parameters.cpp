#include "dist/sharded_parameters.h"

#include "core/for_each.h"
#include "core/hash.h"
#include "core/host_view.h"

namespace muonp::dist {

using core::Tensor;

namespace {

struct ToBfloat16 {
  const float* from;
  core::Written<core::bfloat16> to;
  using Elements = core::ElementArrays<&ToBfloat16::from, &ToBfloat16::to>;
  MUONP_HD void operator()(std::int64_t i) const { to[i] = core::bfloat16(from[i]); }
};

}  // namespace

ShardedParameters::ShardedParameters(core::Device& device, core::ParameterList parameters, ShardPlan plan,
                                     int rank, int stage, core::Dtype weight_dtype)
    : device_(device),
      parameters_(std::move(parameters)),
      plan_(std::move(plan)),
      rank_(rank),
      stage_(stage) {
  MUONP_ASSERT(stage >= 0 && stage <= 2, "stage {}", stage);
  MUONP_ASSERT(parameters_.size() == plan_.parameters().size(), "{} parameters, {} planned",
               parameters_.size(), plan_.parameters().size());
  for (int b = 0; b < static_cast<int>(plan_.buckets().size()); ++b) {
    const Bucket& bucket = plan_.buckets()[static_cast<std::size_t>(b)];
    weights_.push_back(Tensor::zeros(device_, {bucket.size}, weight_dtype, core::Category::weights));
    const Interval kept = kept_of_bucket(b);
    master_.push_back(
        weight_dtype == core::Dtype::float32
            ? weights_.back().flat(kept.begin, kept.count())
            : Tensor::zeros(device_, {kept.count()}, core::Dtype::float32, core::Category::optimizer));
    for (int p : bucket.parameters) {
      core::Parameter& parameter = *parameters_[static_cast<std::size_t>(p)];
      const Interval where = plan_.in_bucket(p);
      MUONP_ASSERT(where.count() == parameter.size(), "{} has {} elements, {} planned", parameter.name,
                   parameter.size(), where.count());
      parameter.value = weights_.back().flat(where.begin, where.count()).view(parameter.shape);
    }
  }
}

Interval ShardedParameters::kept_of_bucket(int bucket) const {
  if (stage_ == 0) return {0, plan_.buckets()[static_cast<std::size_t>(bucket)].size};
  return plan_.slice(bucket, rank_);
}

Interval ShardedParameters::kept(int parameter) const {
  if (stage_ == 0) return {0, plan_.in_bucket(parameter).count()};
  return plan_.piece(parameter, rank_);
}

Tensor ShardedParameters::master(int parameter) const {
  const int bucket = plan_.bucket_of(parameter);
  const Interval part = kept(parameter);
  if (part.empty()) return master_[static_cast<std::size_t>(bucket)].flat(0, 0);
  const std::int64_t begin = plan_.in_bucket(parameter).begin + part.begin - kept_of_bucket(bucket).begin;
  return master_[static_cast<std::size_t>(bucket)].flat(begin, part.count());
}

void ShardedParameters::initialize(std::uint64_t seed) const {
  for (int p = 0; p < static_cast<int>(parameters_.size()); ++p) {
    const Interval part = kept(p);
    if (part.empty()) continue;
    const core::HostView host(device_.queue(), master(p), core::Access::write);
    core::initialize(*parameters_[static_cast<std::size_t>(p)], seed, part.begin, part.count(),
                     host.data<float>());
    host.upload();
  }
}

void ShardedParameters::cast_to_weights(int bucket) const {
  const Tensor& weights = weights_[static_cast<std::size_t>(bucket)];
  if (weights.dtype() == core::Dtype::float32) return;
  const Interval kept = kept_of_bucket(bucket);
  const float* from = master_[static_cast<std::size_t>(bucket)].data<float>();
  core::bfloat16* to = weights.data<core::bfloat16>() + kept.begin;
  core::for_each(device_.queue(), kept.count(), ToBfloat16{from, {to}});
}

void ShardedParameters::gather_weights(int bucket, Communicator& communicator) const {
  if (stage_ > 0) communicator.all_gather(Span(weights_[static_cast<std::size_t>(bucket)]));
}

void ShardedParameters::publish(Communicator& communicator) const {
  for (int b = 0; b < static_cast<int>(weights_.size()); ++b) {
    cast_to_weights(b);
    gather_weights(b, communicator);
  }
}

std::uint64_t ShardedParameters::weights_hash() const {
  std::uint64_t hash = 0;
  for (const core::Parameter* p : parameters_)
    hash = core::hash_bytes(core::HostView(device_.queue(), p->value, core::Access::read).raw(),
                            p->value.bytes(), hash);
  return hash;
}

}  // namespace muonp::dist
