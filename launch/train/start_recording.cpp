#include "launch/train/start_recording.h"

#include "core/base/index.h"

namespace muonp::launch {

StartRecord start_record(const StartFacts& f, std::int64_t step) {
  const dist::OwnerPlan& owners = f.plan.matrix_owners();
  StartRecord record{.device = f.device,
                     .ranks = f.ranks,
                     .model = f.model.description(),
                     .data = f.data,
                     .step = step,
                     .imbalance = owners.imbalance(),
                     .sent_bytes = f.plan.bytes_sent_per_step(f.batches.passes)};
  for (const dist::ParameterSpec& p : f.plan.shards.parameters()) record.parameters += core::element_count(p.shape);
  // A snapshot is on the host: part of what a rank's device holds where that is the host.
  const bool on_host = f.plan.options.device == core::DeviceKind::cpu;
  const int n = f.plan.shards.world_size();
  record.matrices.assign(core::at(n), 0);
  for (int t = 0; t < static_cast<int>(owners.tasks().size()); ++t)
    for (int r = owners.owner(t); r < owners.group(t).end; ++r) ++record.matrices[core::at(r)];
  const std::int64_t activations = f.activation_bytes();
  for (int r = 0; r < n; ++r) {
    const optim::ExecutionPlan::Bytes b = f.plan.bytes(r);
    record.weights.push_back(b.weights);
    record.gradients.push_back(b.gradients);
    record.optimizer.push_back(b.optimizer);
    record.exchange.push_back(b.exchange);
    record.activations.push_back(activations);
    record.snapshot.push_back(on_host ? f.snapshot_bytes(r) : 0);
    record.host.push_back(b.host + (on_host ? 0 : f.snapshot_bytes(r)));
    record.load.push_back(owners.load(r));
  }
  return record;
}

}  // namespace muonp::launch
