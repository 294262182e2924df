// EF21-Muon's share of a training step (arXiv 2510.00643): which parameters cross the network compressed, and how they move.
//
// A matrix of a muonp group is a matrix of the exchange: every rank keeps a momentum of its own gradients, whole, and sends
// what its owner does not know of it yet. All other parameters, if they are compressed, lie flat in buckets; the r-th slice
// of each is one more matrix, of one row, that rank r owns, and what is sent is the gradient.
//
// Each rank keeps momentum, estimate and weights whole, so there is nothing that ZeRO 2 or 3 could shard: these refuse it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/autograd/autograd.h"
#include "core/base/math.h"
#include "dist/compression/error_feedback.h"
#include "dist/plan/owner_plan.h"
#include "dist/plan/shard_plan.h"
#include "optim/plan/groups.h"

namespace muonp::optim {

struct CompressionOptions {
  std::optional<dist::CompressorSpec> to_owner, to_workers;  // of matrices: both or neither
  bool others = false;                                       // vectors, embeddings, heads: int8 both ways
  StateDtype state_dtype = StateDtype::float32;              // of Gⱼ
  bool matrices() const { return to_owner.has_value(); }
  bool any() const { return matrices() || others; }
  std::string text() const;  // "matrices top_k 0.1 to owners, natural to workers; others int8"
};
// From the texts of a configuration, where "none" is nothing. Error for an unknown compressor, for one direction alone, and
// for a state_dtype of nothing.
CompressionOptions parse_compression(const std::string& to_owner, const std::string& to_workers, const std::string& others,
                                     const std::string& state_dtype = "float32");

// Of the parameters that are compressed; their indices count within this set. A pure function of its arguments.
struct CompressionPlan {
  std::vector<int> parameters;  // in the model's list, ascending
  std::vector<dist::ParameterSpec> specs;
  Groups groups;
  dist::OwnerPlan owners;       // a task for each matrix
  dist::ShardPlan flat;         // all parameters; those that are matrices have size 0 here
  dist::FeedbackPlan feedback;  // matrices in the order of the owner plan's tasks, then the slices, bucket by bucket

  // How Gⱼ is kept. Rounded without bias always: to nearest, a message too small to move it would be sent again and again.
  Storage estimates;
  struct EstimatePiece {
    int parameter;
    dist::Interval in_parameter;
    std::int64_t begin;  // in the feedback's matrix
  };
  std::vector<EstimatePiece> estimate_pieces(int matrix) const;  // of one of the feedback's matrices

  int matrices() const { return core::to_int(owners.tasks().size()); }
  std::int64_t snapshot_bytes(int rank) const;  // of what a checkpoint takes from a rank
  // Elements whose states a rank has: all of a matrix, of other parameters what lies in a slice that it owns.
  dist::Interval kept(int parameter, int rank) const;
  // The index, among the feedback's matrices, of a rank's slice of a bucket.
  int slice(int bucket, int rank) const { return matrices() + bucket * flat.world_size() + rank; }
};

std::vector<dist::ParameterSpec> specs_of(const core::ParameterList& parameters);

core::ParameterList chosen(const core::ParameterList& parameters, const std::vector<int>& indices);

// Indices of the parameters that `options` compress; those without elements are left out.
std::vector<int> compressed_parameters(const core::ParameterList& parameters, const Groups& groups,
                                       const CompressionOptions& options);
// `parameters`, `groups`, `owners`: of the chosen ones only.
CompressionPlan make_compression_plan(std::vector<int> chosen, const core::ParameterList& parameters, Groups groups,
                                      dist::OwnerPlan owners, const CompressionOptions& options, int world_size,
                                      std::int64_t bucket_elements);

}  // namespace muonp::optim
