// Error feedback with compression both ways (EF21, arXiv 2106.05203; with a server's side as in EF21-Muon, arXiv 2510.00643,
// where every matrix has a server of its own, its owner). In each round, for every matrix,
//
//   rank j   R = C(T − Gⱼ),  Gⱼ ← Gⱼ + R,  R to the owner        T: what rank j wants the owner to know, its momentum
//   owner    G ← G + mean of all R,  moves X by G,  S = C′(X − W),  S to all
//   all      W ← W + S
//
// so that G is the mean of all Gⱼ, and what a message leaves out is not lost but part of the next. Matrices come in waves:
// the messages of one cross the network while the next is encoded and the last one moved.
//
// A rank that keeps Gⱼ in fewer bits than it was computed in has rounded it where the owner cannot follow. With a factor
// κ < 1 in both places, Gⱼ ← κGⱼ + R of the residual T − κGⱼ and G ← κG + mean of all R, what they differ by fades: it is
// the sum of the rounding errors of n rounds ago times κⁿ, in place of all that were ever made.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/base/index.h"
#include "dist/comm/wave_pipeline.h"
#include "dist/compression/compressor.h"

namespace muonp::dist {

struct FeedbackMatrix {
  std::string name;
  std::int64_t rows = 0, cols = 0;
  int owner = 0;
  CompressorSpec to_owner, to_workers;
  std::int64_t narrow_estimate_bytes = 0;  // of Gⱼ where an EstimateStore keeps it; 0: float32
  std::int64_t size() const { return rows * cols; }
};

// Who exchanges what, decided before any memory is taken.
struct FeedbackPlan {
  std::vector<FeedbackMatrix> matrices;
  std::vector<std::vector<int>> waves;  // every matrix in exactly one
  float keep = 1;                       // κ

  struct Bytes {
    std::int64_t estimates = 0;  // Gⱼ, and on owners G, X; with the states of compressors
    std::int64_t buffers = 0;    // of a Round, at most; what moving X takes comes on top
    std::int64_t sent = 0;       // to other ranks in a round, exactly
  };
  Bytes bytes(int rank, int world_size) const;
  std::int64_t bytes_sent_by_all(int world_size) const;  // sum of bytes(rank).sent, in one go
};

// Where a rank keeps Gⱼ of its matrices from one round to the next, all zero at first.
class EstimateStore {
 public:
  virtual ~EstimateStore() = default;
  virtual core::Tensor read(int matrix) const = 0;  // float32, size() elements; the caller may write to it
  virtual void write(int matrix, const core::Tensor& values, std::uint64_t step) = 0;  // rounded, without bias
};

class ErrorFeedback {
 public:
  // `weights`: W of each matrix, float32, size() elements, equal on all ranks; they, the plan and the estimates outlive this
  // object. Without `estimates` it keeps Gⱼ itself, as float32. Gⱼ and G start at zero.
  ErrorFeedback(core::Device& device, const FeedbackPlan& plan, std::vector<core::Tensor> weights, int rank, int world_size,
                EstimateStore* estimates = nullptr);
  ~ErrorFeedback();

  struct Target {
    core::Tensor values;  // float32, size() elements, left as they are
    float factor = 1;     // T = factor · values
  };
  // One round as a pipeline's transport. What is taken of a matrix is its mean; instead of writing `out`, which has no
  // memory, its owner moves master(). When a wave has arrived, W of its matrices is up to date. targets: of every matrix, on
  // every rank. The feedback outlives it.
  class Round;

  bool owns(int matrix) const;
  core::Tensor estimate(int matrix) const;        // Gⱼ, or a copy of it
  const core::Tensor& mean(int matrix) const;     // G, of the owner
  const core::Tensor& master(int matrix) const;   // X, of the owner; the caller gives it its first values
  const core::Tensor& weights(int matrix) const;  // W
  // What the compressors remember: the sender's towards the owner, and the owner's towards all. May be empty.
  const core::Tensor& state_to_owner(int matrix) const;
  const core::Tensor& state_to_workers(int matrix) const;

 private:
  struct Matrix;
  core::Tensor wire(const Compressor& compressor) const;
  const Matrix& at(int matrix) const;

  core::Device& device_;
  const FeedbackPlan& plan_;
  int rank_, world_size_;
  EstimateStore* estimates_;
  std::vector<Matrix> matrices_;
};

class ErrorFeedback::Round final : public WaveTransport {
 public:
  // step: keys the randomness of compressors.
  Round(ErrorFeedback& feedback, std::uint64_t step, std::vector<Target> targets);
  ~Round() override;

  int waves() const override { return static_cast<int>(feedback_.plan_.waves.size()); }
  std::span<const int> tasks(int wave) const override { return feedback_.plan_.waves[core::at(wave)]; }
  std::optional<Messages> gather(int wave) override;
  std::vector<OwnedMatrix> take(int wave) override;
  Messages scatter(int wave, std::span<const OwnedMatrix> mine) override;
  void arrive(int wave) override;

 private:
  struct InFlight;  // what messages of a wave lie in
  InFlight& flight(int wave);

  ErrorFeedback& feedback_;
  std::uint64_t step_;
  std::vector<Target> targets_;
  std::vector<InFlight> flights_;  // by wave
};

}  // namespace muonp::dist
