// Error feedback with compression both ways (EF21, arXiv 2106.05203; with a server's side as in EF21-Muon, arXiv 2510.00643,
// where every matrix has a server of its own, its owner). In each round, for every matrix,
//
//   rank j   R = C(T − Gⱼ),  Gⱼ ← Gⱼ + R,  R to the owner        T: what rank j wants the owner to know, its momentum
//   owner    G ← G + mean of all R,  moves X by G,  S = C′(X − W),  S to all
//   all      W ← W + S
//
// so that G is the mean of all Gⱼ, and what a message leaves out is not lost but part of the next. Matrices come in waves:
// the messages of one cross the network while the next is encoded and the last one moved.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "dist/comm/async.h"
#include "dist/comm/communicator.h"
#include "dist/compression/compressor.h"

namespace muonp::dist {

struct FeedbackMatrix {
  std::string name;
  std::int64_t rows = 0, cols = 0;
  int owner = 0;
  CompressorSpec to_owner, to_workers;
  std::int64_t size() const { return rows * cols; }
};

// Who exchanges what, decided before any memory is taken.
struct FeedbackPlan {
  std::vector<FeedbackMatrix> matrices;
  std::vector<std::vector<int>> waves;  // every matrix in exactly one

  struct Bytes {
    std::int64_t estimates = 0;  // Gⱼ, and on owners G, X; with the states of compressors
    std::int64_t buffers = 0;    // in round(), at most; what `move` allocates comes on top
    std::int64_t sent = 0;       // to other ranks in a round, exactly
  };
  Bytes bytes(int rank, int world_size) const;
  std::int64_t bytes_sent_by_all(int world_size) const;  // sum of bytes(rank).sent, in one go
};

class ErrorFeedback {
 public:
  // `weights`: W of each matrix, float32, size() elements, equal on all ranks; they and the plan outlive this object.
  // Gⱼ and G start at zero.
  ErrorFeedback(core::Device& device, const FeedbackPlan& plan, std::vector<core::Tensor> weights,
                Communicator& communicator, AsyncQueue& async);
  ~ErrorFeedback();

  struct Target {
    core::Tensor values;  // float32, size() elements, left as they are
    float factor = 1;     // T = factor · values
  };
  // target(i): of every matrix, on every rank. move: once per wave, with the matrices that this rank owns in it; mean() of
  // these is up to date, and master() is to be moved. arrived(i): W of a matrix is up to date. Collective.
  void round(std::uint64_t step, const std::function<Target(int)>& target,
             const std::function<void(std::span<const int>)>& move, const std::function<void(int)>& arrived);

  bool owns(int matrix) const;
  const core::Tensor& estimate(int matrix) const;  // Gⱼ
  const core::Tensor& mean(int matrix) const;      // G, of the owner
  const core::Tensor& master(int matrix) const;    // X, of the owner; the caller gives it its first values
  const core::Tensor& weights(int matrix) const;   // W
  // What the compressors remember: the sender's towards the owner, and the owner's towards all. May be empty.
  const core::Tensor& state_to_owner(int matrix) const;
  const core::Tensor& state_to_workers(int matrix) const;

 private:
  struct Matrix;
  struct Wave;
  void encode_for_owner(Wave& wave, std::uint64_t step, const std::function<Target(int)>& target);
  void take_means(Wave& wave);
  void encode_for_workers(Wave& wave, std::uint64_t step);
  void take_weights(Wave& wave);
  core::Tensor wire(const Compressor& compressor) const;
  const Matrix& at(int matrix) const;

  core::Device& device_;
  const FeedbackPlan& plan_;
  Communicator& communicator_;
  AsyncQueue& async_;
  std::vector<Matrix> matrices_;
};

}  // namespace muonp::dist
