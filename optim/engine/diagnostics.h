// Spectral diagnostics of a step (docs/diagnostics.md): what owners measure of the matrices that they own, and the records
// that all ranks then have.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dist/comm/communicator.h"
#include "optim/plan/spectra.h"
#include "optim/spectral/spectrum.h"

namespace muonp::optim {

// Of error feedback, of one parameter and one step.
struct FeedbackFigures {
  double alpha_to_owner = 1, alpha_to_workers = 1;  // contraction seen in each direction
  double lag = 0;                                   // root of Σ‖N − G‖²/Σ‖N‖² over ranks, after the step
  double gap = 0;                                   // ‖X − W‖/‖W‖, after the step
};

// As it crosses the network.
struct MeasuredMatrix {
  int parameter = 0;  // in the model's list of trained ones
  int matrix = 0;     // within it
  spectral::Spectra spectra;
  std::optional<FeedbackFigures> feedback;
};

struct MatrixRecord {
  std::string name, kind;  // "blocks.0.attention.qkv.weight[q]", "blocks.attention.qkv.weight[q]"
  std::int64_t rows = 0, cols = 0;
  spectral::Spectra spectra;
  std::optional<FeedbackFigures> feedback;
};

// Of one part of the optimizer, whose parameters count from 0; `indices`: theirs in the model's list.
class Diagnostics {
 public:
  Diagnostics(core::Device& device, const Groups& groups, const std::vector<dist::ParameterSpec>& specs,
              const std::vector<int>& indices, std::vector<std::string> patterns)
      : device_(device), groups_(groups), specs_(specs), indices_(indices), patterns_(std::move(patterns)) {}

  bool wants(int parameter) const;
  struct Input {  // of an owned matrix; float32, of the parameter's elements
    int parameter;
    core::Tensor momentum, update, weight;
  };
  // Those that are wanted are measured, together.
  void measure(std::span<const Input> inputs);
  // Of a parameter that was measured in this step.
  void add(int parameter, const FeedbackFigures& figures);
  // What was measured since the last call.
  std::vector<MeasuredMatrix> take() { return std::exchange(measured_, {}); }

 private:
  core::Device& device_;
  const Groups& groups_;
  const std::vector<dist::ParameterSpec>& specs_;
  const std::vector<int>& indices_;
  std::vector<std::string> patterns_;
  std::vector<MeasuredMatrix> measured_;
};

// Of all ranks, in the model's order, the same on every rank. Collective.
std::vector<MatrixRecord> gather_records(dist::Communicator& communicator, const core::ParameterList& parameters,
                                         const Groups& groups, const std::vector<MeasuredMatrix>& mine);

}  // namespace muonp::optim
