#include "optim/plan/sharing.h"

#include <algorithm>

#include "core/base/index.h"
#include "core/base/math.h"

namespace muonp::optim {

void let_share(dist::MatrixTask& task, const MatrixStep& step, const core::Parameter& p, const Split* split) {
  std::vector<dist::Rectangle> matrices;
  std::int64_t side = p.size();
  for (const MatrixBatch& b : matrix_batches(p.name, p.shape, split)) {
    side = std::min({side, b.rows, b.cols});
    for (std::int64_t i = 0; i < b.count; ++i) matrices.push_back({b.offset + i * b.apart, b.pitch, b.rows, b.cols});
  }
  int most = 1;
  while (spectral::can_share(side, most + 1)) ++most;
  if (most == 1 || !step.shared_work(p.name, p.shape, split, most)) return;
  task.matrices = std::move(matrices);
  task.most_owners = most;
}

spectral::SharedWork shared_work(const dist::OwnerPlan& owners, const Groups& groups,
                                 const std::vector<dist::ParameterSpec>& specs, core::DeviceKind device, int task) {
  const int p = owners.tasks()[core::at(task)].parameter;
  const dist::ParameterSpec& spec = specs[core::at(p)];
  const auto step = groups.group_for(p).config.rule->matrix_step(device);
  const auto work = step->shared_work(spec.name, spec.shape, groups.split_of(p), owners.group_size(task));
  MUONP_ASSERT(work.has_value(), "{} is shared by {} ranks", spec.name, owners.group_size(task));
  return *work;
}

double shared_bytes_sent(const dist::OwnerPlan& owners, const Groups& groups, const std::vector<dist::ParameterSpec>& specs,
                         core::DeviceKind device) {
  double sent = 0;
  for (int t = 0; t < core::to_int(owners.tasks().size()); ++t)
    if (owners.is_shared(t)) sent += static_cast<double>(shared_work(owners, groups, specs, device, t).sent);
  return sent;
}

std::int64_t own_elements(const dist::OwnerPlan& owners, const dist::ShardPlan& shards, int task) {
  const int p = owners.tasks()[core::at(task)].parameter;
  if (!owners.is_shared(task)) return shards.piece(p, owners.owner(task)).count();
  std::int64_t own = 0;
  const dist::Interval group = owners.group(task);
  for (int r = core::to_int(group.begin); r < group.end; ++r) {
    const dist::Interval piece = shards.piece(p, r);
    for (const dist::Rectangle& part : owners.share(task, r)) own += part.before(piece.end) - part.before(piece.begin);
  }
  return own;
}

}  // namespace muonp::optim
