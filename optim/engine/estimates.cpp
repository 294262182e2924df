#include "optim/engine/estimates.h"

#include "core/base/index.h"

namespace muonp::optim {

using core::at;
using core::Tensor;

NarrowEstimates::NarrowEstimates(core::Device& device, const CompressionPlan& plan, int rank)
    : device_(device), plan_(plan) {
  for (int i = 0; i < core::to_int(plan.feedback.matrices.size()); ++i) {
    states_.emplace_back();
    for (const auto& piece : plan.estimate_pieces(i))
      states_.back().emplace_back(device, plan.estimates,
                                  fmt::format("{}/estimate#{}", plan.specs[at(piece.parameter)].name, rank),
                                  piece.in_parameter.begin, piece.in_parameter.count(), /*in_host_memory=*/false);
  }
}

// A slice may have elements beside those of its parameters, which are zero.
Tensor NarrowEstimates::read(int matrix) const {
  const std::int64_t size = plan_.feedback.matrices[at(matrix)].size();
  const Tensor values = Tensor::zeros(device_, {size}, core::Dtype::float32, core::Category::exchange);
  const auto pieces = plan_.estimate_pieces(matrix);
  for (std::size_t k = 0; k < pieces.size(); ++k)
    states_[at(matrix)][k].decode(device_.queue(), values.flat(pieces[k].begin, pieces[k].in_parameter.count()));
  return values;
}

void NarrowEstimates::write(int matrix, const Tensor& values, std::uint64_t step) {
  const auto pieces = plan_.estimate_pieces(matrix);
  for (std::size_t k = 0; k < pieces.size(); ++k)
    states_[at(matrix)][k].encode(device_.queue(), values.flat(pieces[k].begin, pieces[k].in_parameter.count()),
                                  static_cast<std::int64_t>(step));
}

void NarrowEstimates::add_state(int matrix, std::vector<StateTensor>& to) const {
  const auto pieces = plan_.estimate_pieces(matrix);
  for (std::size_t k = 0; k < pieces.size(); ++k)
    to.push_back(state_tensor(states_[at(matrix)][k], plan_.specs[at(pieces[k].parameter)].shape));
}

}  // namespace muonp::optim
