#include "optim/engine/shared_side.h"

#include <algorithm>

#include "core/base/index.h"
#include "core/base/math.h"
#include "optim/engine/rank_sharers.h"
#include "optim/plan/sharing.h"

namespace muonp::optim {

using core::at;

SharedSide::SharedSide(core::Device& device, const dist::OwnerPlan& owners, const Groups& groups,
                       const std::vector<dist::ParameterSpec>& specs, dist::Communicator& communicator,
                       dist::AsyncQueue& async, core::Stopwatch& waits)
    : device_(device),
      owners_(owners),
      groups_(groups),
      specs_(specs),
      communicator_(communicator),
      async_(async),
      waits_(waits) {
  for (const Group& group : groups.groups())
    steps_.push_back(group.config.whole_matrices() ? group.config.rule->matrix_step(device.kind()) : nullptr);
  for (int w = 0; w < owners.waves(); ++w) {
    exchanges_.emplace_back();
    for (const std::vector<int>& turn : owners.turns(w)) {
      int most = 0;
      for (const int t : turn) most = std::max(most, shared_work(owners, groups, specs, device.kind(), t).exchanges);
      exchanges_.back().push_back(most);
    }
  }
}

MatrixStep& SharedSide::step_of(int task) const {
  return *steps_[at(groups_.group_of(owners_.tasks()[at(task)].parameter))];
}

MatrixInput SharedSide::input_of(int task) const {
  const int p = owners_.tasks()[at(task)].parameter;
  return {.name = specs_[at(p)].name, .shape = specs_[at(p)].shape, .split = groups_.split_of(p), .in = {}, .out = {}};
}

void SharedSide::compute(std::int64_t step, int wave, std::span<const Part> mine) {
  const std::vector<std::vector<int>>& turns = owners_.turns(wave);
  for (std::size_t turn = 0; turn < turns.size(); ++turn) {
    const auto is_next = [&](const Part& part) { return std::ranges::find(turns[turn], part.task) != turns[turn].end(); };
    const auto part = std::ranges::find_if(mine, is_next);
    RankSharers sharers(communicator_, async_, part == mine.end() ? dist::Interval{} : owners_.group(part->task), waits_);
    if (part != mine.end()) {
      MatrixInput input = input_of(part->task);
      input.in = part->in;
      input.out = part->out;
      input.facts = part->facts;
      step_of(part->task).compute_share(device_, step, input, sharers);
    }
    sharers.idle_until(exchanges_[at(wave)][turn]);
  }
}

}  // namespace muonp::optim
