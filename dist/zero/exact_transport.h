// Matrices as they are on their way through their owners: pieces of all ranks are gathered to the owner, and its result goes
// back to where the pieces came from, bit for bit. At stage 0 every rank holds the whole input already, so nothing is
// gathered and the result goes to all. Where ranks share a matrix each gets, and sends, its rectangles of it, one behind the
// other; pieces of columns are packed by who has the piece.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "dist/comm/wave_pipeline.h"
#include "dist/plan/wave_layout.h"
#include "dist/zero/sharded_parameters.h"

namespace muonp::dist {

class ExactTransport final : public WaveTransport {
 public:
  // pieces: by task of the plan, this rank's kept part of the matrix, 1-D float32; read by the gather, and overwritten with
  // the result. For one pass through the plan's waves; the first two outlive it.
  ExactTransport(core::Device& device, const ShardedParameters& parameters, const OwnerPlan& plan,
                 std::vector<core::Tensor> pieces)
      : device_(device), parameters_(parameters), plan_(plan), pieces_(std::move(pieces)) {}

  int waves() const override { return plan_.waves(); }
  std::span<const int> tasks(int wave) const override { return plan_.wave(wave); }
  std::optional<Messages> gather(int wave) override;
  std::vector<OwnedMatrix> take(int wave) override;
  // take() for who only reads: no memory for results.
  std::vector<OwnedMatrix> received(int wave);
  Messages scatter(int wave, std::span<const OwnedMatrix> mine) override;
  void arrive(int wave) override;

  // Most bytes that one pass holds at once on a rank in its buffers, with what computing takes for the matrices that the
  // rank owns in a wave.
  using Workspace = std::function<std::int64_t(int wave)>;
  static std::int64_t buffer_bytes(const ShardPlan& shards, const OwnerPlan& owners, int rank, ZeroStage zero,
                                   const Workspace& workspace);

 private:
  // A run of a rectangle that a piece of the parameter has of it.
  struct Run {
    Rectangle where;
    Interval elements;        // of the rectangle
    std::int64_t before = 0;  // elements of what the owner has that lie before it
  };
  std::vector<Run> runs(int task, int owner, Interval piece) const;
  // Memory for a run's message: of the piece itself, or packed.
  core::Tensor message_of(const Run& run, const core::Tensor& piece, Interval kept) const;
  void share_out(int task, Messages& messages);
  void share_back(int task, Messages& messages);
  core::Tensor whole_share(int task);
  // Memory for a wave's matrices that this rank owns whole, and a matrix in it.
  struct Laid {
    WaveLayout layout;
    core::Tensor memory;
  };
  Laid lay_out(int wave) const;
  core::Tensor place_in(const Laid& laid, int task) const;

  bool is_mine(int task) const { return plan_.owns(parameters_.rank(), task); }
  Interval kept_of(int task) const { return parameters_.kept(plan_.tasks()[core::at(task)].parameter); }
  core::Shape shape_of(int task) const;  // of what an owner has
  // What ranks contribute to, and get back of, a matrix; those without elements of it are left out.
  std::vector<std::pair<int, Interval>> pieces_of(int task) const;

  core::Device& device_;
  const ShardedParameters& parameters_;
  const OwnerPlan& plan_;
  std::vector<core::Tensor> pieces_;
  std::vector<OwnedMatrix> gathering_;  // of the wave that is on its way
  struct Packed {
    int task;
    Run run;
    core::Tensor message;
  };
  std::vector<Packed> going_, coming_;  // packed messages under way, to owners and back
};

}  // namespace muonp::dist
