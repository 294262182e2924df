#include "dist/zero/sharded_parameters.h"

#include <algorithm>

#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"
#include "core/device/offload.h"

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

ShardedParameters::ShardedParameters(core::Device& device, core::ParameterList parameters, ShardPlan plan, int rank,
                                     ZeroStage zero, core::Dtype weight_dtype, Masters masters)
    : device_(device),
      parameters_(std::move(parameters)),
      plan_(std::move(plan)),
      rank_(rank),
      zero_(zero),
      weight_dtype_(weight_dtype),
      masters_(masters) {
  MUONP_ASSERT(parameters_.size() == plan_.parameters().size(), "{} parameters, {} planned", parameters_.size(),
               plan_.parameters().size());
  whole_.resize(plan_.buckets().size());
  for (int b = 0; b < core::to_int(plan_.buckets().size()); ++b) {
    const Bucket& bucket = plan_.buckets()[core::at(b)];
    const Interval kept = kept_of_bucket(b);
    const std::int64_t size = zero_.gathers_each_pass ? kept.count() : bucket.size;
    weights_.push_back(Tensor::zeros(device_, {size}, weight_dtype, core::Category::weights));
    if (weight_dtype == core::Dtype::float32)
      master_.push_back(weights_.back().flat(zero_.gathers_each_pass ? 0 : kept.begin, kept.count()));
    else if (masters != Masters::none)
      master_.push_back(core::zeros_in(masters == Masters::in_host_memory, device_, {kept.count()}, core::Dtype::float32,
                                       core::Category::optimizer));
    for (int p : bucket.parameters) {
      core::Parameter& parameter = *parameters_[core::at(p)];
      MUONP_ASSERT(plan_.in_bucket(p).count() == parameter.size(), "{} has {} elements, {} planned", parameter.name,
                   parameter.size(), plan_.in_bucket(p).count());
      parameter.value = Tensor();
    }
    if (!zero_.gathers_each_pass) point_values(b, weights_.back());
  }
}

void ShardedParameters::point_values(int bucket, const Tensor& whole) const {
  for (int p : plan_.buckets()[core::at(bucket)].parameters) {
    core::Parameter& parameter = *parameters_[core::at(p)];
    const Interval where = plan_.in_bucket(p);
    parameter.value = whole.flat(where.begin, where.count()).view(parameter.shape);
  }
}

Interval ShardedParameters::kept_of_bucket(int bucket) const {
  if (!zero_.keeps_slice) return {0, plan_.buckets()[core::at(bucket)].size};
  return plan_.slice(bucket, rank_);
}

Interval ShardedParameters::kept(int parameter) const {
  if (!zero_.keeps_slice) return {0, plan_.in_bucket(parameter).count()};
  return plan_.piece(parameter, rank_);
}

Tensor ShardedParameters::master(int parameter) const {
  MUONP_ASSERT(has_masters(), "{} has no master weights", plan_.parameters()[core::at(parameter)].name);
  const int bucket = plan_.bucket_of(parameter);
  const Interval part = kept(parameter);
  if (part.empty()) return master_[core::at(bucket)].flat(0, 0);
  const std::int64_t begin = plan_.in_bucket(parameter).begin + part.begin - kept_of_bucket(bucket).begin;
  return master_[core::at(bucket)].flat(begin, part.count());
}

void ShardedParameters::fill(int parameter, const core::WeightFiller& fill) const {
  const Interval part = kept(parameter);
  if (part.empty()) return;
  if (!has_masters()) return fill_weights(parameter, fill);
  const core::HostView host(device_.queue(), master(parameter), core::Access::write);
  fill(*parameters_[core::at(parameter)], part.begin, part.count(), host.data<float>());
  host.upload();
}

// A block at a time, so that memory does not grow with the parameter.
void ShardedParameters::fill_weights(int parameter, const core::WeightFiller& fill) const {
  constexpr std::int64_t kBlock = std::int64_t{1} << 20;
  const int bucket = plan_.bucket_of(parameter);
  const Interval part = kept(parameter);
  const std::int64_t first =
      plan_.in_bucket(parameter).begin + part.begin - (zero_.gathers_each_pass ? kept_of_bucket(bucket).begin : 0);
  std::vector<float> values(static_cast<std::size_t>(std::min(kBlock, part.count())));
  for (std::int64_t done = 0, block = 0; done < part.count(); done += block) {
    block = std::min(kBlock, part.count() - done);
    fill(*parameters_[core::at(parameter)], part.begin + done, block, values.data());
    const core::HostView host(device_.queue(), weights_[core::at(bucket)].flat(first + done, block), core::Access::write);
    std::transform(values.begin(), values.begin() + block, host.data<core::bfloat16>(),
                   [](float x) { return core::bfloat16(x); });
    host.upload();
  }
}

void ShardedParameters::cast_to_weights(int bucket) const {
  const Tensor& weights = weights_[core::at(bucket)];
  if (weights.dtype() == core::Dtype::float32 || !has_masters()) return;
  const Interval kept = kept_of_bucket(bucket);
  core::bfloat16* to = weights.data<core::bfloat16>() + (zero_.gathers_each_pass ? 0 : kept.begin);
  core::compute_in_pieces(device_, {master_[core::at(bucket)]}, core::Pieces::read,
                          [&](std::int64_t begin, std::int64_t count, std::span<const Tensor> master) {
                            core::for_each(device_.queue(), count, ToBfloat16{master[0].data<float>(), {to + begin}});
                          });
}

void ShardedParameters::gather_weights(int bucket, Communicator& communicator) const {
  if (!zero_.keeps_slice) return;
  const auto b = static_cast<std::size_t>(bucket);
  communicator.all_gather(Span(zero_.gathers_each_pass ? whole_[b] : weights_[b]));
}

void ShardedParameters::publish(Communicator& communicator) const {
  for (int b = 0; b < core::to_int(weights_.size()); ++b) {
    cast_to_weights(b);
    if (!zero_.gathers_each_pass) gather_weights(b, communicator);
  }
}

void ShardedParameters::open(int bucket) {
  const auto b = static_cast<std::size_t>(bucket);
  MUONP_ASSERT(zero_.gathers_each_pass && !whole_[b], "bucket {} is opened twice or at stage {}", bucket, zero_.number);
  const Interval kept = kept_of_bucket(bucket);
  whole_[b] = Tensor::empty(device_, {plan_.buckets()[b].size}, weights_[b].dtype(), core::Category::weights);
  whole_[b].flat(kept.begin, kept.count()).copy_from(device_.queue(), weights_[b]);
}

void ShardedParameters::expose(int bucket) const { point_values(bucket, whole_[core::at(bucket)]); }

void ShardedParameters::close(int bucket) {
  const auto b = static_cast<std::size_t>(bucket);
  for (int p : plan_.buckets()[b].parameters) parameters_[core::at(p)]->value = Tensor();
  whole_[b] = Tensor();
}

std::uint64_t ShardedParameters::weights_hash(Communicator& communicator) {
  std::uint64_t hash = 0;
  int opened = -1;
  for (int p = 0; p < core::to_int(parameters_.size()); ++p) {
    const int bucket = plan_.bucket_of(p);
    if (zero_.gathers_each_pass && bucket != opened) {
      if (opened >= 0) close(opened);
      open(opened = bucket);
      gather_weights(bucket, communicator);
      expose(bucket);
    }
    const Tensor& value = parameters_[core::at(p)]->value;
    hash = core::hash_bytes(core::HostView(device_.queue(), value, core::Access::read).raw(), value.bytes(), hash);
  }
  if (opened >= 0) close(opened);
  return hash;
}

}  // namespace muonp::dist
