// How parameters are cut over ranks: flat buckets in reverse order of use, each cut evenly
// (docs/parallelism.md). A pure function of its arguments: every rank computes the same plan and compares the
// hash.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/index.h"
#include "core/base/shape.h"

namespace muonp::dist {

struct ParameterSpec {
  std::string name;
  core::Shape shape;
};

// The layer a parameter belongs to: its name up to the first component that is a number ("blocks.3"), else the name.
std::string layer_of(const std::string& parameter);

struct Interval {  // [begin, end), elements
  std::int64_t begin = 0, end = 0;
  std::int64_t count() const { return end - begin; }
  bool empty() const { return begin == end; }
  bool operator==(const Interval&) const = default;
};

struct Bucket {
  std::vector<int> parameters;  // indices, in the order they lie in the bucket
  std::int64_t used = 0;        // elements before padding
  std::int64_t size = 0;        // padded to a multiple of world size · 16: equal slices that start on a cache line
};

class ShardPlan {
 public:
  // Parameters in order of first use. A bucket is closed when the next parameter would take it past
  // `bucket_elements`; a parameter larger than that has a bucket of its own. Zero-size parameters are
  // allowed. cut_at_layers: no bucket holds parameters of two layers.
  ShardPlan(std::vector<ParameterSpec> parameters, int world_size, std::int64_t bucket_elements, bool cut_at_layers = false);

  int world_size() const { return world_size_; }
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  const std::vector<Bucket>& buckets() const { return buckets_; }
  int bucket_of(int parameter) const { return bucket_of_[core::at(parameter)]; }
  // Where the parameter lies in its bucket.
  Interval in_bucket(int parameter) const { return in_bucket_[core::at(parameter)]; }
  // The slice of a bucket that a rank keeps, in bucket coordinates.
  Interval slice(int bucket, int rank) const;
  // The part of a parameter that lies in a rank's slice, in coordinates of the flattened parameter; may be
  // empty.
  Interval piece(int parameter, int rank) const;
  // The ranks [begin, end) that have a piece of a parameter.
  Interval ranks_of(int parameter) const;

  std::int64_t padded_elements() const;  // sum of bucket sizes
  std::uint64_t hash() const;
  std::string describe() const;  // one line a bucket, for the error that names the first difference

 private:
  std::vector<ParameterSpec> parameters_;
  int world_size_;
  bool cut_at_layers_;
  std::vector<Bucket> buckets_;
  std::vector<int> bucket_of_;
  std::vector<Interval> in_bucket_;
};

}  // namespace muonp::dist
