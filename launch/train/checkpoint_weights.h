// The weights of a checkpoint, a part at a time: what was trained as it is there, and of a run with adapters its frozen
// weights with the adapters' products added.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/autograd/parameter.h"
#include "core/files/checkpoint_pieces.h"
#include "launch/train/initial_weights.h"

namespace muonp::launch {

class CheckpointWeights {
 public:
  // frozen: of a run with adapters. What is given by reference outlives this object.
  CheckpointWeights(const core::Checkpoint& checkpoint, const core::ParameterList& parameters,
                    const std::optional<InitialWeights>& frozen);

  const core::Shape& shape(const std::string& parameter) const { return parameters_.at(parameter)->shape; }
  const core::PieceReader& pieces() const { return pieces_; }
  // Elements [begin, end) of a parameter: W, or W + scale·B·A, summed in float32.
  void read(const std::string& parameter, std::int64_t begin, std::int64_t end, float* to);

 private:
  struct Adapter {  // of the weight that was read last
    std::string weight;
    std::int64_t rank = 0;
    float scale = 0;
    std::vector<float> a, b;
  };
  const Adapter* adapter_of(const core::Parameter& weight);
  std::vector<float> whole(const core::Parameter& parameter) const;

  core::PieceReader pieces_;
  const std::optional<InitialWeights>& frozen_;
  std::map<std::string, const core::Parameter*> parameters_;
  Adapter adapter_;
};

}  // namespace muonp::launch
