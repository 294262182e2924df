#include "dist/plan/shard_plan.h"

#include <algorithm>
#include <limits>

#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/math.h"

namespace muonp::dist {

namespace {

constexpr std::int64_t kSliceAlignment = 16;  // elements: a slice of float32 starts on a cache line of the bucket

std::int64_t round_up(std::int64_t value, std::int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

std::string layer_of(const std::string& parameter) {
  for (std::size_t begin = 0; begin < parameter.size();) {
    const std::size_t end = std::min(parameter.find('.', begin), parameter.size());
    if (end > begin &&
        std::all_of(parameter.begin() + static_cast<std::ptrdiff_t>(begin),
                    parameter.begin() + static_cast<std::ptrdiff_t>(end), [](char c) { return c >= '0' && c <= '9'; }))
      return parameter.substr(0, end);
    begin = end + 1;
  }
  return parameter;
}

ShardPlan::ShardPlan(std::vector<ParameterSpec> parameters, int world_size, std::int64_t bucket_elements, bool cut_at_layers)
    : parameters_(std::move(parameters)), world_size_(world_size), cut_at_layers_(cut_at_layers) {
  MUONP_ASSERT(world_size >= 1, "a plan for {} ranks", world_size);
  MUONP_ASSERT(bucket_elements >= 1, "buckets of {} elements", bucket_elements);
  if (parameters_.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))  // and so many buckets at most
    core::fail("a model of {} parameters; they are numbered up to {}", parameters_.size(), std::numeric_limits<int>::max());
  bucket_of_.resize(parameters_.size());
  in_bucket_.resize(parameters_.size());
  for (std::size_t p = parameters_.size(); p-- > 0;) {
    const std::int64_t size = core::element_count(parameters_[p].shape);
    const bool full = !buckets_.empty() && buckets_.back().used > 0 && buckets_.back().used + size > bucket_elements;
    const bool next_layer =
        cut_at_layers && p + 1 < parameters_.size() && layer_of(parameters_[p].name) != layer_of(parameters_[p + 1].name);
    if (buckets_.empty() || full || next_layer) buckets_.emplace_back();
    Bucket& bucket = buckets_.back();
    bucket.parameters.push_back(core::to_int(p));
    bucket_of_[p] = core::to_int(buckets_.size()) - 1;
    in_bucket_[p] = {bucket.used, bucket.used + size};
    bucket.used += size;
  }
  for (Bucket& bucket : buckets_) bucket.size = round_up(bucket.used, world_size_ * kSliceAlignment);
}

Interval ShardPlan::slice(int bucket, int rank) const {
  MUONP_ASSERT(rank >= 0 && rank < world_size_, "slice of rank {} of {}", rank, world_size_);
  const std::int64_t each = buckets_[core::at(bucket)].size / world_size_;
  return {rank * each, (rank + 1) * each};
}

Interval ShardPlan::piece(int parameter, int rank) const {
  const Interval whole = in_bucket(parameter), kept = slice(bucket_of(parameter), rank);
  const std::int64_t begin = std::max(whole.begin, kept.begin), end = std::min(whole.end, kept.end);
  if (begin >= end) return {};
  return {begin - whole.begin, end - whole.begin};
}

Interval ShardPlan::ranks_of(int parameter) const {
  const Interval whole = in_bucket(parameter);
  if (whole.empty()) return {};
  const std::int64_t each = slice(bucket_of(parameter), 0).count();
  return {whole.begin / each, (whole.end - 1) / each + 1};
}

std::int64_t ShardPlan::padded_elements() const {
  std::int64_t total = 0;
  for (const Bucket& bucket : buckets_) total += bucket.size;
  return total;
}

// The description holds everything that the plan depends on.
std::uint64_t ShardPlan::hash() const {
  const std::string text = describe();
  return core::hash_bytes(text.data(), std::ssize(text));
}

std::string ShardPlan::describe() const {
  std::string text = fmt::format("{} parameters in {} buckets{} over {} ranks", parameters_.size(), buckets_.size(),
                                 cut_at_layers_ ? " cut at layers" : "", world_size_);
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    const Bucket& bucket = buckets_[b];
    text += fmt::format("\nbucket {}: {} of {} elements used by", b, bucket.used, bucket.size);
    for (int p : bucket.parameters) {
      const ParameterSpec& spec = parameters_[core::at(p)];
      text += fmt::format(" {} {}", spec.name, core::to_string(spec.shape));
    }
  }
  return text;
}

}  // namespace muonp::dist
