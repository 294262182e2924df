// The way of a matrix through its owner: gather its pieces there, compute, scatter the result back to where
// the pieces came from. Waves are pipelined: gather of wave k + 1 and scatter of wave k − 1 run beside the
// computation of wave k. At stage 0 every rank holds the whole input already, so nothing is gathered and the
// result goes to all.
#pragma once

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "dist/comm/async.h"
#include "dist/plan/owner_plan.h"
#include "dist/zero/sharded_parameters.h"

namespace muonp::dist {

struct OwnedMatrix {
  int task;          // in the owner plan
  core::Tensor in;   // the parameter's shape, float32; to be left as it is
  core::Tensor out;  // the same shape, to be written
};

class OwnerExchange {
 public:
  OwnerExchange(core::Device& device, const ShardedParameters& parameters, const OwnerPlan& plan,
                Communicator& communicator, AsyncQueue& async);

  using Piece = std::function<core::Tensor(int task)>;
  using Compute = std::function<void(std::span<const OwnedMatrix> mine)>;
  using Arrived = std::function<void(int task)>;
  // piece(task): this rank's kept part of the matrix, 1-D float32; read by the gather, overwritten by the
  // scatter. compute: called once per wave with the matrices this rank owns in it, maybe none. arrived: when
  // piece(task) holds the result; called for every task on every rank, wave by wave.
  void run(const Piece& piece, const Compute& compute, const Arrived& arrived);

  // Most bytes that run() holds at once on a rank in its buffers, with what `compute` takes for the matrices that the rank
  // owns in a wave.
  using Workspace = std::function<std::int64_t(int wave)>;
  static std::int64_t buffer_bytes(const ShardPlan& shards, const OwnerPlan& owners, int rank, int stage,
                                   const Workspace& workspace);

 private:
  struct Wave;
  Wave prepare(int w, const Piece& piece) const;
  void allocate_outputs(Wave& wave) const;
  const core::Shape& shape_of(int task) const;
  // What ranks contribute to, and get back of, a matrix; those without elements of it are left out.
  std::vector<std::pair<int, Interval>> pieces_of(int task) const;

  core::Device& device_;
  const ShardedParameters& parameters_;
  const OwnerPlan& plan_;
  Communicator& communicator_;
  AsyncQueue& async_;
};

}  // namespace muonp::dist
