#include <algorithm>

#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/comm/operation.h"
#include "optim/plan/step_tasks.h"

namespace muonp::optim {

using core::at;
using dist::Pattern;

namespace {

// Bytes an element that a step moves in memory for the states of a rule: reads and writes of what is float32; of what is
// narrow those of its two forms as well, and the look for the largest magnitude.
double moved_states(const Groups& groups, int parameter) {
  double bytes = 0;
  for (const Storage& state : groups.group_for(parameter).config.storages())
    bytes += 8 + (state.narrow() ? 8 + 2 * stored_bytes_per_element(state) : 0);
  return bytes;
}

}  // namespace

// Reads the gradient, reads and writes master and states.
void StepTasks::move(int parameter) {
  const double bytes = 12 + moved_states(plan_.sharded_groups, parameter);
  graph_->compute(StepPhase::momentum, {.memory = bytes * kept(size_of(parameter))});
  updated(parameter);
}

// Reads and writes the gradient, which becomes the direction, and the states.
void StepTasks::direct(const Groups& groups, int parameter, double elements) {
  graph_->compute(StepPhase::momentum, {.memory = (8 + moved_states(groups, parameter)) * elements});
}

void StepTasks::gather_partners() {
  if (std::ranges::all_of(plan_.partners, [](int p) { return p < 0; })) return;
  for (int b = 0; b < core::to_int(plan_.shards.buckets().size()); ++b) {
    if (!plan_.has_partner(b) || !plan_.zero.keeps_slice) continue;
    const double sent = 4 * static_cast<double>(plan_.shards.buckets()[at(b)].size) * (n_ - 1) / n_;
    graph_->wait(graph_->communicate(StepPhase::gather, Pattern::all_gather, sent, sent,
                                     cluster_.rounds(Pattern::all_gather, false)));
  }
}

void StepTasks::update() {
  pending_.clear();
  for (const dist::Bucket& bucket : plan_.shards.buckets()) pending_.push_back(core::to_int(bucket.parameters.size()));
  gather_partners();
  for (int p = 0; p < core::to_int(plan_.sharded.size()); ++p)
    if (!plan_.sharded_groups.group_for(p).config.whole_matrices() || size_of(p) == 0) move(p);
  for (const dist::MatrixTask& task : plan_.owners.tasks())
    direct(plan_.sharded_groups, task.parameter, kept(static_cast<double>(task.elements)));
  switch (scheme_) {
    case StepScheme::sharded:
      exchange();
      break;
    case StepScheme::replicated:
      local_updates();
      break;
    case StepScheme::owner_broadcast:
      broadcast_updates();
      break;
    case StepScheme::gathered:
      gathered_updates();
      break;
  }
  if (plan_.compression) exchange_compressed();
}

StepGraph::Ticket StepTasks::send(StepPhase phase, const MessageLoad& load) {
  return graph_->communicate(phase, Pattern::exchange, load.mean, load.busiest, load.rounds);
}

// dist/comm/wave_pipeline.h: while a wave is computed the next is gathered and the last scattered.
void StepTasks::exchange() {
  const int waves = core::to_int(waves_.size());
  std::vector<StepGraph::Ticket> gathered(waves_.size(), -1), scattered(waves_.size(), -1);
  const auto start = [&](int w) {
    if (w < waves && plan_.zero.keeps_slice) gathered[at(w)] = send(StepPhase::to_owners, waves_[at(w)].there);
  };
  if (waves > 0) start(0);
  for (int w = 0; w <= waves && waves > 0; ++w) {
    if (w < waves) {
      start(w + 1);
      graph_->wait(gathered[at(w)]);
      graph_->compute(StepPhase::matrices, {.products = waves_[at(w)].seconds, .flops = waves_[at(w)].flops});
      if (const SharedLoad& shared = waves_[at(w)].shared; shared.mean > 0)
        graph_->wait(graph_->communicate(StepPhase::matrices, shared.mean, cluster_.communication(shared.busiest)));
      scattered[at(w)] = send(StepPhase::to_all, waves_[at(w)].back);
    }
    if (w == 0) continue;
    graph_->wait(scattered[at(w - 1)]);
    apply_wave(w - 1);
  }
}

// Reads the update, reads and writes the master.
void StepTasks::apply_wave(int wave) {
  for (const int t : plan_.owners.wave(wave)) {
    const int p = plan_.owners.tasks()[at(t)].parameter;
    graph_->compute(StepPhase::update, {.memory = 12 * kept(size_of(p))});
    updated(p);
  }
}

void StepTasks::local_updates() {
  for (int w = 0; w < core::to_int(waves_.size()); ++w) {
    graph_->compute(StepPhase::matrices, {.products = waves_[at(w)].seconds, .flops = waves_[at(w)].flops});
    apply_wave(w);
  }
}

double StepTasks::wave_elements(int wave) const {
  double elements = 0;
  for (const int t : plan_.owners.wave(wave)) elements += static_cast<double>(plan_.owners.tasks()[at(t)].elements);
  return elements;
}

// While a wave is computed the next is gathered; of what it computes each rank applies its slice.
void StepTasks::gathered_updates() {
  const int waves = core::to_int(waves_.size());
  const auto gather = [&](int w) -> StepGraph::Ticket {
    const double sent = 4 * wave_elements(w) * (n_ - 1) / n_;
    return graph_->communicate(StepPhase::to_owners, Pattern::all_gather, sent, sent,
                               cluster_.rounds(Pattern::all_gather, false));
  };
  StepGraph::Ticket next = waves > 0 ? gather(0) : -1;
  for (int w = 0; w < waves; ++w) {
    const StepGraph::Ticket mine = std::exchange(next, w + 1 < waves ? gather(w + 1) : -1);
    graph_->wait(mine);
    graph_->compute(StepPhase::matrices, {.products = waves_[at(w)].seconds, .flops = waves_[at(w)].flops});
    apply_wave(w);
  }
}

// Owners move their matrices' weights, which go to all by rings or pairs whose work does not depend on who sends.
void StepTasks::broadcast_updates() {
  for (int w = 0; w < core::to_int(waves_.size()); ++w) {
    graph_->compute(StepPhase::matrices, {.products = waves_[at(w)].seconds, .flops = waves_[at(w)].flops});
    const double elements = wave_elements(w);
    graph_->compute(StepPhase::update, {.memory = 12 * elements / n_});
    const double sent = weight_bytes_ * elements * (n_ - 1) / n_;
    graph_->wait(graph_->communicate(StepPhase::to_all, Pattern::all_gather, sent, sent,
                                     cluster_.rounds(Pattern::all_gather, false)));
  }
}

// dist/compression/error_feedback.h: residuals are encoded one wave ahead, and answers decoded one wave later.
void StepTasks::exchange_compressed() {
  const CompressionPlan& compression = *plan_.compression;
  for (const dist::MatrixTask& task : compression.owners.tasks())
    direct(compression.groups, task.parameter, static_cast<double>(task.elements));
  const int waves = core::to_int(compressed_.size());
  std::vector<StepGraph::Ticket> there(compressed_.size(), -1), back(compressed_.size(), -1);
  const auto start = [&](int w) {
    if (w >= waves) return;
    graph_->compute(StepPhase::to_owners, {.elsewhere = compressed_[at(w)].encode});
    there[at(w)] = send(StepPhase::to_owners, compressed_[at(w)].there);
  };
  if (waves > 0) start(0);
  for (int w = 0; w <= waves && waves > 0; ++w) {
    if (w < waves) {
      const WaveLoad& load = compressed_[at(w)];
      start(w + 1);
      graph_->wait(there[at(w)]);
      graph_->compute(StepPhase::to_owners, {.elsewhere = load.read});
      graph_->compute(StepPhase::matrices, {.products = load.seconds, .flops = load.flops});
      graph_->compute(StepPhase::update, {.memory = 12 * load.owned_elements});
      graph_->compute(StepPhase::to_all, {.elsewhere = load.answer});
      back[at(w)] = send(StepPhase::to_all, load.back);
    }
    if (w == 0) continue;
    const WaveLoad& before = compressed_[at(w - 1)];
    const double cast = plan_.options.weight_dtype == core::Dtype::float32 ? 0 : 4 + weight_bytes_;
    graph_->wait(back[at(w - 1)]);
    graph_->compute(StepPhase::update, {.memory = cast * before.elements, .elsewhere = before.apply});
  }
}

// A bucket of which all is updated is cast, and at stages 1 and 2 gathered.
void StepTasks::updated(int parameter) {
  const int bucket = plan_.shards.bucket_of(parameter);
  if (--pending_[at(bucket)] > 0) return;
  const auto size = static_cast<double>(plan_.shards.buckets()[at(bucket)].size);
  if (plan_.options.weight_dtype != core::Dtype::float32)
    graph_->compute(StepPhase::update, {.memory = (4 + weight_bytes_) * kept(size)});
  if (!plan_.zero.keeps_slice || plan_.zero.gathers_each_pass) return;
  const double slice = weight_bytes_ * size / n_, sent = (n_ - 1) * slice;
  const bool is_short = dist::is_short(static_cast<std::int64_t>(slice));
  gathers_[at(bucket)] = graph_->communicate(StepPhase::gather, Pattern::all_gather, sent, sent,
                                             cluster_.rounds(Pattern::all_gather, is_short));
}

}  // namespace muonp::optim
