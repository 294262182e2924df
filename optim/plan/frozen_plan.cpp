#include "optim/plan/frozen_plan.h"

#include <algorithm>
#include <utility>

#include "core/base/index.h"
#include "core/base/math.h"

namespace muonp::optim {

namespace {

std::vector<std::int64_t> gathered(const core::ParameterList& trained, const core::ParameterList& frozen,
                                   const ExecutionPlan& plan) {
  core::WeightReads::List all = plan.options.reads.forward;
  all.insert(all.end(), plan.options.reads.backward.begin(), plan.options.reads.backward.end());
  std::vector<std::pair<std::vector<int>, std::vector<int>>> reads;
  for (const auto& operation : all) {
    const auto some = [&](bool of_trained) {
      std::vector<core::Parameter*> list = operation;
      std::erase_if(list, [=](const core::Parameter* p) { return p->trained != of_trained; });
      return list;
    };
    reads.emplace_back(core::positions_of({some(true)}, trained).front(), core::positions_of({some(false)}, frozen).front());
  }
  return dist::GatherPlan::held_together(*plan.gathers, plan.frozen_gathers ? &*plan.frozen_gathers : nullptr, reads);
}

}  // namespace

void plan_frozen(const core::ParameterList& model, ExecutionPlan& plan, int world_size) {
  const core::ParameterList frozen = core::frozen_of(model);
  if (!frozen.empty())
    plan.frozen.emplace(specs_of(frozen), world_size, plan.options.bucket_elements, plan.zero.gathers_each_pass);
  if (!plan.zero.gathers_each_pass) return;
  if (plan.frozen) {
    const core::WeightReads reads = plan.options.reads.only(false);
    plan.frozen_gathers.emplace(*plan.frozen, core::positions_of(reads.forward, frozen),
                                core::positions_of(reads.backward, frozen), plan.options.prefetch);
  }
  plan.whole_weights = gathered(core::trained_of(model), frozen, plan);
}

std::vector<int> partners_of(const core::ParameterList& sharded, const Groups& groups) {
  std::vector<int> partners;
  for (int p = 0; p < core::to_int(sharded.size()); ++p) {
    const auto other = std::ranges::find(sharded, sharded[core::at(p)]->partner);
    const bool needed = sharded[core::at(p)]->partner != nullptr && groups.group_for(p).config.rule->needs().partner_gram;
    MUONP_ASSERT(!needed || other != sharded.end(), "the other factor of {} is not trained", sharded[core::at(p)]->name);
    partners.push_back(needed ? core::to_int(other - sharded.begin()) : -1);
  }
  return partners;
}

bool ExecutionPlan::has_partner(int bucket) const {
  return std::ranges::any_of(partners, [&](int p) { return p >= 0 && shards.bucket_of(p) == bucket; });
}

// Gram matrices of the partners of what a rank owns, and, before matrices are moved, a whole bucket to make them of.
void ExecutionPlan::add_pairs(int rank, Bytes& bytes) const {
  std::int64_t grams = 0, largest = 0;
  for (int t = 0; t < core::to_int(owners.tasks().size()); ++t) {
    const int partner = partners[core::at(owners.tasks()[core::at(t)].parameter)];
    if (partner < 0) continue;
    largest = std::max(largest, shards.buckets()[core::at(shards.bucket_of(partner))].size);
    const core::Shape& shape = shards.parameters()[core::at(partner)].shape;
    if (owners.owner(t) == rank) grams += std::min(shape[0], shape[1]) * std::min(shape[0], shape[1]);
  }
  bytes.exchange = std::max(bytes.exchange, 4 * largest) + 4 * grams;
}

}  // namespace muonp::optim
