// Layers: parameters together with the operation that uses them. list_reads() appends what the operation reads where
// its input depends on parameters.
#pragma once

#include "core/autograd/autograd.h"
#include "models/layers/parameter_set.h"

namespace muonp::models {

// Parameters "<name>.weight" [outputs, inputs] and, with bias, "<name>.bias" [outputs] = 0.
class Linear {
 public:
  Linear(ParameterSet& set, const std::string& name, std::int64_t outputs, std::int64_t inputs, bool bias, double stddev);
  core::Variable operator()(core::Tape& tape, const core::Variable& x) const;
  void list_reads(core::WeightReads& reads) const { reads.operation({weight_, bias_}, {weight_}); }

 private:
  core::Parameter* weight_;
  core::Parameter* bias_ = nullptr;
};

enum class NormKind : std::uint8_t { layer, rms };

// Parameters "<name>.weight" [width] = 1 and, with bias, "<name>.bias" [width] = 0. RMS norm has no bias.
class Norm {
 public:
  Norm(ParameterSet& set, const std::string& name, std::int64_t width, NormKind kind, bool bias);
  core::Variable operator()(core::Tape& tape, const core::Variable& x) const;
  void list_reads(core::WeightReads& reads) const { reads.operation({gain_, bias_}, {gain_}); }

 private:
  NormKind kind_;
  core::Parameter* gain_;
  core::Parameter* bias_ = nullptr;
};

}  // namespace muonp::models
