#include "launch/train/start_report.h"

#include <algorithm>

#include "core/base/units.h"
#include "core/device/attention.h"
#include "launch/report/table.h"

namespace muonp::launch {

namespace {

constexpr int kMostRankRows = 16;

// Beside forward, backward and matrix steps of all ranks.
std::string spectra_text(const StartFacts& f) {
  const dist::OwnerPlan& owners = f.plan.matrix_owners();
  const int ranks = f.plan.shards.world_size();
  double step = ranks * f.model.step_flops(f.batches.per_rank, f.config.data.sequence);
  for (int r = 0; r < ranks; ++r) step += owners.load(r);
  const double measuring = f.plan.spectra_flops(), every = static_cast<double>(f.config.log.spectra_every);
  return fmt::format("{:.1f} Gflop every {} steps, {:.2g} % of all work", 1e-9 * measuring, f.config.log.spectra_every,
                     100 * measuring / every / step);
}

// How many matrices ranks share, and how many ranks at most.
std::string shared_text(const dist::OwnerPlan& owners) {
  int shared = 0, most = 0;
  for (int t = 0; t < static_cast<int>(owners.tasks().size()); ++t) {
    shared += owners.is_shared(t);
    most = std::max(most, owners.group_size(t));
  }
  return shared == 0 ? "" : fmt::format(", {} of them shared by up to {} ranks,", shared, most);
}

std::string run_table(const StartFacts& f) {
  const RunConfig& c = f.config;
  const optim::ExecutionPlan& plan = f.plan;
  const std::int64_t time = c.data.sequence;
  Table table({"", ""});
  table.add({"run", fmt::format("{}, {} steps, seed {}", c.directory(), c.run.steps, c.run.seed)});
  table.add({"model", f.model.description()});
  if (!f.data.empty()) table.add({"data", f.data});
  table.add({"batch", fmt::format("{} sequences of {} = {} tokens a step; {} a rank, in {} of {}", f.batches.batch, time,
                                  core::format_count(static_cast<double>(f.batches.batch * time)), f.batches.per_rank,
                                  f.batches.passes == 1 ? "1 pass" : fmt::format("{} passes", f.batches.passes),
                                  f.batches.micro_batch)});
  table.add({"ranks", f.ranks});
  table.add({"device", f.device});
  table.add({"compute",
             fmt::format("{}{}", c.parallel.compute,
                         f.peak > 0 ? fmt::format(", products at {:.1f} Gflop/s a rank", f.peak * 1e-9) : std::string())});
  if (plan.options.device == core::DeviceKind::cuda)
    table.add({"attention", core::describe_attention(
                                {f.batches.micro_batch, time, c.model.heads(), c.data.packing, c.model.qk_clip.enabled},
                                plan.options.weight_dtype)});
  table.add({"work", fmt::format("{:.1f} Gflop a rank and step in forward and backward",
                                 1e-9 * f.model.step_flops(f.batches.per_rank, time))});
  table.add({"shards",
             fmt::format("ZeRO {}, {} bucket{}, communication {}", plan.options.zero, plan.shards.buckets().size(),
                         plan.shards.buckets().size() == 1 ? "" : "s", plan.options.overlap ? "overlapped" : "in line")});
  const dist::OwnerPlan& owners = plan.matrix_owners();
  table.add(
      {"owners", fmt::format("{} matrices{} in {} wave{}, imbalance {:.3f} (largest load / mean)", owners.tasks().size(),
                             shared_text(owners), owners.waves(), owners.waves() == 1 ? "" : "s", owners.imbalance())});
  if (plan.compression) table.add({"compressed", plan.options.compression.text()});
  if (c.log.spectra_every > 0) table.add({"spectra", spectra_text(f)});
  const auto sent = static_cast<std::int64_t>(plan.bytes_sent_per_step(f.batches.passes));
  table.add({"network", fmt::format("{} sent per rank and step", core::format_bytes(sent))});
  return table.render();
}

std::string group_table(const StartFacts& f) {
  Table table({"group", "rule", "parameters", "elements", "lr"},
              {Align::left, Align::left, Align::right, Align::right, Align::right});
  for (const optim::GroupRow& row : f.plan.groups.rows())
    table.add({row.group, row.rule, std::to_string(row.parameters), core::format_count(static_cast<double>(row.elements)),
               fmt::format("{:g}", row.lr)});
  if (f.plan.frozen) {
    std::int64_t elements = 0;
    for (const dist::ParameterSpec& p : f.plan.frozen->parameters()) elements += core::element_count(p.shape);
    table.add({"frozen", "", std::to_string(f.plan.frozen->parameters().size()),
               core::format_count(static_cast<double>(elements)), ""});
  }
  return table.render();
}

std::string rank_table(const StartFacts& f) {
  // A snapshot is on the host: part of the total where the ranks compute there.
  const bool on_host = f.plan.options.device == core::DeviceKind::cpu, offload = f.plan.options.offload;
  std::vector<std::string> columns = {"rank",        "weights",  "gradients", "optimizer", "exchange",
                                      "activations", "snapshot", "total",     "owns",      "load"};
  if (offload) columns.push_back("in host memory");
  Table table(columns, std::vector<Align>(columns.size(), Align::right));
  const int n = f.plan.shards.world_size();
  const dist::OwnerPlan& owners = f.plan.matrix_owners();
  const std::int64_t activations = f.activation_bytes(), pass = f.pass_bytes();
  double mean = 0;
  for (int r = 0; r < n; ++r) mean += owners.load(r) / n;
  for (int r = 0; r < std::min(n, kMostRankRows); ++r) {
    const optim::ExecutionPlan::Bytes b = f.plan.bytes(r);
    int owned = 0;
    for (int t = 0; t < static_cast<int>(owners.tasks().size()); ++t) owned += owners.owns(r, t);
    const std::int64_t total = f.plan.peak_bytes(b, pass) + (on_host ? f.snapshot_bytes(r) : 0);
    std::vector<std::string> row = {std::to_string(r),
                                    core::format_bytes(b.weights),
                                    core::format_bytes(b.gradients),
                                    core::format_bytes(b.optimizer),
                                    core::format_bytes(b.exchange),
                                    core::format_bytes(activations),
                                    core::format_bytes(f.snapshot_bytes(r)),
                                    core::format_bytes(total),
                                    std::to_string(owned),
                                    mean > 0 ? fmt::format("{:.3f}", owners.load(r) / mean) : "-"};
    if (offload) row.push_back(core::format_bytes(b.host));
    table.add(row);
  }
  return table.render() + (n > kMostRankRows ? fmt::format("\n... and {} ranks more", n - kMostRankRows) : "");
}

}  // namespace

std::int64_t planned_peak_bytes(const StartFacts& f, int rank) {
  return f.plan.peak_bytes(f.plan.bytes(rank), f.pass_bytes());
}

std::string start_report(const StartFacts& f) { return run_table(f) + "\n" + group_table(f) + "\n" + rank_table(f); }

}  // namespace muonp::launch
