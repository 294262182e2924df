// Ranks of a communicator that share a matrix. All ranks call the same exchanges, those that share another matrix in the
// same turn their own, and those that share none empty ones, so that every form of a communicator can carry them.
#pragma once

#include "core/base/math.h"
#include "core/device/stopwatch.h"
#include "dist/comm/async.h"
#include "dist/plan/shard_plan.h"
#include "optim/spectral/sharers.h"

namespace muonp::optim {

class RankSharers final : public spectral::Sharers {
 public:
  // `ranks`: one after the other; this one may not be among them, and then idles. `waits` times the exchanges.
  RankSharers(dist::Communicator& communicator, dist::AsyncQueue& async, dist::Interval ranks, core::Stopwatch& waits)
      : communicator_(communicator), async_(async), ranks_(ranks), waits_(waits) {}

  int size() const override { return core::to_int(ranks_.count()); }
  int rank() const override { return communicator_.rank() - core::to_int(ranks_.begin); }
  void exchange(std::span<const core::Tensor> sends, std::span<const core::Tensor> receives) override;
  // Takes part in the exchanges of others until there were so many. InternalError if there were more.
  void idle_until(int exchanges);

 private:
  dist::Communicator& communicator_;
  dist::AsyncQueue& async_;
  dist::Interval ranks_;
  core::Stopwatch& waits_;
  int exchanges_ = 0;
};

}  // namespace muonp::optim
