#include "optim/rules/rule.h"

#include <algorithm>

#include "core/base/error.h"

namespace muonp::optim {

core::Shape state_shape(const StateSpec& state, std::span<const MatrixBatch> batches) {
  MatrixBatch m = batches.front();
  m.count = 0;
  std::int64_t elements = 0, matrices = 0;
  for (const MatrixBatch& batch : batches) {
    elements += batch.elements();
    matrices += batch.count;
    if (batch.rows == m.rows && batch.cols == m.cols) m.count += batch.count;
  }
  if (state.form == Form::scalar) return {matrices};  // whatever their sizes
  if (elements != m.elements()) {
    if (state.form == Form::elements) return {elements};
    core::fail("the state {} is one of matrices of one size, and a split makes parts of several", state.name);
  }
  const auto squares = [&state](std::int64_t count, std::int64_t side) {
    if (state.longest > 0 && side > state.longest) side = 0;
    return core::Shape{count, side, side};
  };
  switch (state.form) {
    case Form::elements:
      return {m.count, m.rows, m.cols};
    case Form::rows:
      return {m.count, m.rows};
    case Form::columns:
      return {m.count, m.cols};
    case Form::scalar:
      break;
    case Form::square:
      return squares(m.count, std::min(m.rows, m.cols));
    case Form::row_square:
      return squares(m.count, m.rows);
    case Form::column_square:
      return squares(m.count, m.cols);
  }
  throw core::InternalError("a state without a form");
}

void Rule::move(core::Queue&, const StepFacts&, const core::Tensor&, const GradientSum&,
                std::span<const core::Tensor>) const {
  throw core::InternalError(fmt::format("{} does not move element by element", name()));
}

Direction Rule::direction(core::Queue&, const StepFacts&, const GradientSum&, std::span<const core::Tensor>) const {
  throw core::InternalError(fmt::format("{} has no direction of a matrix", name()));
}

void MatrixStep::compute_share(core::Device&, std::int64_t, const MatrixInput& input, spectral::Sharers&) {
  throw core::InternalError(fmt::format("{} is taken whole", input.name));
}

std::int64_t MatrixStep::share_workspace_bytes(const MatrixInput& input, int) const {
  throw core::InternalError(fmt::format("{} is taken whole", input.name));
}

std::unique_ptr<MatrixStep> Rule::matrix_step(core::DeviceKind) const {
  throw core::InternalError(fmt::format("{} does not move whole matrices", name()));
}

std::vector<StateSpec> Rule::states_of(Home home) const {
  std::vector<StateSpec> result;
  std::ranges::copy_if(states(), std::back_inserter(result), [home](const StateSpec& s) { return s.home == home; });
  return result;
}

}  // namespace muonp::optim
