// Reads an optimizer's state from a checkpoint of any run: another world size, with or without compression.
//
// What only a rank of its own had ("<parameter>/momentum#2", "estimate#2", "basis#2") is read as it is where the world size
// is the same. Where it is not, ranks are dealt the means, which the next step moves by:
//
//   momentum#r     ← the mean of all momentum#k, or the momentum of a run without compression
//   estimate#r     ← mean_estimate, the owner's G
//   basis#r, basis ← zero: a low-rank compressor starts anew
//   weights        ← master
//   momentum       ← the mean of all momentum#k, in a run without compression
//
// and where a checkpoint of a run without compression has no estimates, they are what the owner can know as well: the
// momentum of a matrix, zero for gradients.
#pragma once

#include "core/files/checkpoint_pieces.h"
#include "optim/engine/state.h"

namespace muonp::optim {

class StateReader {
 public:
  StateReader(const core::PieceReader& pieces, bool same_world_size) : pieces_(pieces), same_(same_world_size) {}
  // The tensor's interval, to tensor.interval.count() floats of host memory. Error as PieceReader.
  void read(const StateTensor& tensor, float* to) const;

 private:
  void exactly(const StateTensor& tensor, const std::string& name, float* to) const;
  bool mean_over_ranks(const StateTensor& tensor, const std::string& prefix, float* to) const;
  bool has(const StateTensor& tensor, const std::string& name) const;

  const core::PieceReader& pieces_;
  bool same_;
};

}  // namespace muonp::optim
