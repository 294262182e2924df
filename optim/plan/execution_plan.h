// Who keeps, owns and computes what, decided before any memory is taken. A pure function of the model, the
// configuration and the world size, so that every rank computes the same plan, and `muonp plan` can print it
// anywhere.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/autograd/autograd.h"
#include "core/autograd/parameter.h"
#include "core/device/allocator.h"
#include "dist/plan/gather_plan.h"
#include "dist/plan/owner_plan.h"
#include "dist/plan/shard_plan.h"
#include "dist/plan/zero_stage.h"
#include "optim/plan/compression.h"
#include "optim/plan/config.h"
#include "optim/plan/groups.h"

namespace muonp::optim {

struct ParallelOptions {
  int zero = 1;                                     // ZeRO stage 0, 1, 2 or 3
  std::int64_t bucket_elements = 25 << 18;          // of a gradient bucket
  std::int64_t wave_elements = 0;                   // that an owner holds in one wave of the exchange; 0: by default_wave()
  bool overlap = false;                             // communicate on a thread of its own
  core::Dtype weight_dtype = core::Dtype::float32;  // what the forward pass reads
  core::DeviceKind device = core::DeviceKind::cpu;  // of every rank; the optimizer sets its own
  bool offload = false;          // optimizer state, and masters that are no weights, in host memory; GPUs only
  int prefetch = 1;              // stage 3: buckets of weights gathered ahead of use
  core::WeightReads reads = {};  // of a pass of the model; empty: its parameters one by one, and back
  CompressionOptions compression = {};
  std::vector<std::string> spectra = {};  // patterns of names whose matrices are measured in some steps; empty: none ever
  dist::Owners owners = dist::Owners::whole;  // of matrices; what is compressed or measured is taken whole
};

// A state of a matrix that lives with its owner: "row_squares", [count, rows].
struct OwnerState {
  std::string name;
  core::Shape shape;
};
std::vector<OwnerState> owner_states(const Groups& groups, const dist::ParameterSpec& spec, int parameter);

struct ExecutionPlan {
  ParallelOptions options;
  dist::ZeroStage zero;
  Groups groups;             // of all trained parameters, in the order of the model's list
  std::vector<int> sharded;  // those of them that the three plans below count from 0: all that are not compressed
  Groups sharded_groups;
  dist::ShardPlan shards;
  dist::OwnerPlan owners;  // one task per parameter whose rule needs whole matrices; cost in floating-point operations
  std::optional<dist::GatherPlan> gathers;  // of weights; stage 3
  std::optional<CompressionPlan> compression;
  // By sharded parameter, of rules that need the Gram matrix of the other factor of an adapter: which one that is; else -1.
  std::vector<int> partners;
  // Frozen parameters, which all of the above leaves out: there are weights of them and nothing else.
  std::optional<dist::ShardPlan> frozen;
  std::optional<dist::GatherPlan> frozen_gathers;  // stage 3
  // Elements of whole buckets at one time, trained and frozen. Of weights, by operation of a pass, those of
  // options.reads.forward and then those of .backward; stage 3. Of gradients, while the backward pass undoes an operation of
  // .forward; stages 2 and 3.
  std::vector<std::int64_t> whole_weights, whole_gradients;

  struct Bytes {
    std::int64_t weights = 0, gradients = 0, optimizer = 0, exchange = 0;
    std::int64_t host = 0;  // of pinned host memory: what is offloaded
    std::int64_t total() const { return weights + gradients + optimizer + exchange; }  // on the device
  };
  // What the optimizer allocates on a rank, each at its peak (activations are the model's).
  Bytes bytes(int rank) const;
  // Activations and whole buckets together at their most in a pass, whose stretches are in the order of its forward
  // operations. The same on all ranks.
  std::int64_t pass_bytes(std::span<const core::PassStretch> pass) const;
  // The most at one time on a rank that takes `bytes`: in such a pass, or behind it, in the update or when weights are
  // compared.
  std::int64_t peak_bytes(const Bytes& bytes, std::int64_t pass_bytes) const;
  // What a rank saves: its part of masters and states (DistributedOptimizer::state_to_save).
  std::int64_t snapshot_bytes(int rank) const;
  // Bytes one rank sends to others per step of so many passes, all collectives together, averaged over ranks
  // (docs/parallelism.md): gradients, and at stage 3 weights, which a step that is skipped sends too; and what only an
  // update sends.
  double bytes_sent_by_passes(std::int64_t passes) const;
  double bytes_sent_by_update() const;
  double bytes_sent_per_step(std::int64_t passes = 1) const { return bytes_sent_by_passes(passes) + bytes_sent_by_update(); }
  std::uint64_t hash() const;
  std::string describe() const;  // one line a decision, for the error that names the first difference

  // Whether some partner is in a bucket, which is then made whole before an update, as float32.
  bool has_partner(int bucket) const;

  // Operations of all ranks in a step with spectral diagnostics, for these alone; 0 where options.spectra is empty.
  double spectra_flops() const;

  // Of all matrices: either none or every one is compressed.
  const dist::OwnerPlan& matrix_owners() const { return compression ? compression->owners : owners; }

 private:
  void add_optimizer_bytes(int rank, Bytes& bytes) const;
  std::int64_t compressed_state_workspace(int rank) const;
  std::int64_t measuring_of(int rank, int wave) const;
  std::int64_t whole_weight_bytes() const;
  std::int64_t whole_gradient_bytes() const;
  std::int64_t largest_bucket() const;  // of weights that are gathered, in elements
  double compressed_bytes_sent() const;
  void add_compressed(int rank, Bytes& bytes) const;
  void add_pairs(int rank, Bytes& bytes) const;
};

// ParallelOptions::wave_elements that are 0: 64 MiB of float32, which overlaps an exchange with work; 512 MiB for one GPU,
// which exchanges nothing and takes the matrices of a wave together.
std::int64_t default_wave(core::DeviceKind device, int world_size);

// `model`: all parameters of the model. Error as Groups, as OptimizerConfig::require_run(), for a zero stage that does not
// exist, and for compression at a stage that cannot have it.
ExecutionPlan make_execution_plan(const core::ParameterList& model, const OptimizerConfig& config,
                                  const ParallelOptions& options, int world_size);

}  // namespace muonp::optim
