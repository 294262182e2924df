#include "launch/bench/roofline.h"

#include <algorithm>
#include <cmath>

#include "core/base/index.h"
#include "core/base/units.h"
#include "launch/report/table.h"
#include "optim/plan/sharing.h"

namespace muonp::launch {

namespace {

// NVIDIA's data sheets: H100 SXM and DGX H100 (one 400 Gb/s adapter per GPU), A100 SXM and DGX A100 (200 Gb/s).
const Machine kKnown[] = {
    {"h100", 66.9e12, 494.7e12, 989.4e12, 3.35e12, 450e9, 50e9, 8},
    {"a100", 19.5e12, 156e12, 312e12, 2.039e12, 300e9, 25e9, 8},
};

class Estimate {
 public:
  Estimate(int ranks, const Machine& machine) : machine_(machine), ranks_(ranks) {}

  // A collective by rings: each ring crosses a node's boundary once, and the rings of a node share its adapters.
  double collective_rate() const {
    return one_node() ? machine_.link_bytes : std::min(machine_.link_bytes, machine_.network_bytes * machine_.gpus_per_node);
  }
  // Pieces of a matrix, from all ranks to its owner or back: most come from other nodes.
  double exchange_rate() const {
    if (one_node()) return machine_.link_bytes;
    const double others = ranks_ - 1, far = (ranks_ - machine_.gpus_per_node) / others;
    return 1 / std::max(far / machine_.network_bytes, (1 - far) / machine_.link_bytes);
  }
  bool one_node() const { return ranks_ <= machine_.gpus_per_node; }

  void add(std::string name, double flops, double product_rate, double memory, double sent, double send_rate,
           std::string behind = "") {
    Phase p{std::move(name), flops, memory, sent, 0, "", std::move(behind)};
    const auto consider = [&p](double seconds, const char* bound) {
      if (seconds > p.seconds) {
        p.seconds = seconds;
        p.bound = bound;
      }
    };
    if (flops > 0) consider(flops / product_rate, "products");
    consider(memory / machine_.memory_bytes, "memory");
    if (sent > 0) consider(sent / send_rate, one_node() ? "links" : "network");
    result_.phases.push_back(std::move(p));
  }

  // Phases that hide share the time of the one they hide behind.
  Roofline finish() {
    for (const Phase& p : result_.phases) {
      result_.seconds_in_line += p.seconds;
      if (!p.behind.empty()) continue;
      double together = p.seconds, hidden = 0;
      std::string longest = p.name;
      for (const Phase& other : result_.phases)
        if (other.behind == p.name) hidden += other.seconds;
      if (hidden > together) {
        together = hidden;
        longest = "what hides behind " + p.name;
      }
      result_.seconds += together;
      if (together > most_) {
        most_ = together;
        result_.bounding_phase = longest;
      }
    }
    return result_;
  }

 private:
  const Machine& machine_;
  double ranks_;
  double most_ = 0;
  Roofline result_;
};

}  // namespace

const Machine& machine_of(std::string_view name) {
  for (const Machine& machine : kKnown)
    if (machine.name == name) return machine;
  core::fail("machine {} is unknown; valid are {}", name, fmt::join(kMachines, ", "));
}

Roofline roofline(const StartFacts& f, const Machine& machine) {
  const optim::ExecutionPlan& plan = f.plan;
  const int n = plan.shards.world_size();
  const double share = (n - 1.0) / n, kept = !plan.zero.keeps_slice ? 1 : 1.0 / n;
  const auto padded = static_cast<double>(plan.shards.padded_elements());
  const auto weight_bytes = static_cast<double>(core::size_of(plan.options.weight_dtype));
  const auto rate = [&](core::Dtype d) {
    return d == core::Dtype::float32 ? machine.float32_flops
           : d == core::Dtype::tf32  ? machine.tf32_flops
                                     : machine.float16_flops;
  };
  const double compute = rate(plan.options.weight_dtype);

  const std::int64_t time = f.config.data.sequence, passes = f.batches.passes;
  const double flops = f.model.step_flops(f.batches.per_rank, time);
  const double kept_activations = static_cast<double>(passes) * static_cast<double>(f.activation_bytes());
  const double weights = padded * weight_bytes * static_cast<double>(passes);
  const double reduced = plan.zero.reduces_each_pass ? padded * static_cast<double>(passes) : padded;
  const double gradients = 4 * padded * static_cast<double>(2 * passes - 1);

  double matrices = 0, others = 0, pieces = 0;
  for (const optim::Group& group : plan.groups.groups())
    (group.config.whole_matrices() ? matrices : others) += static_cast<double>(group.elements);
  for (std::size_t t = 0; t < plan.owners.tasks().size(); ++t) {
    const dist::MatrixTask& task = plan.owners.tasks()[t];
    pieces += static_cast<double>(task.elements - optim::own_elements(plan.owners, plan.shards, static_cast<int>(t)));
  }
  std::vector<double> group_rates;
  for (const optim::Group& group : plan.groups.groups())
    group_rates.push_back(group.config.whole_matrices()
                              ? rate(group.config.rule->matrix_step(plan.options.device)->product_dtype())
                              : compute);
  std::vector<double> seconds(static_cast<std::size_t>(n));  // of matrix steps, by rank
  for (std::size_t t = 0; t < plan.owners.tasks().size(); ++t) {
    const dist::MatrixTask& task = plan.owners.tasks()[t];
    const auto group = static_cast<std::size_t>(plan.groups.group_of(task.parameter));
    const dist::Interval owners = plan.owners.group(static_cast<int>(t));
    for (std::int64_t r = owners.begin; r < owners.end; ++r)
      seconds[core::at(r)] += task.cost / static_cast<double>(owners.count()) / group_rates[group];
  }
  const auto slowest = std::max_element(seconds.begin(), seconds.end());
  const double longest = *slowest, load = plan.owners.load(static_cast<int>(slowest - seconds.begin()));
  const double exchanged = !plan.zero.keeps_slice ? 0 : 4 * pieces / n;
  const double scattered = !plan.zero.keeps_slice ? 4 * share * matrices : exchanged;
  const bool sharded = plan.zero.keeps_slice;

  Estimate e(n, machine);
  e.add("forward", flops / 3, compute, weights + kept_activations, 0, 1);
  e.add("backward", 2 * flops / 3 + f.model.recomputed_flops(f.batches.per_rank, time), compute,
        weights + kept_activations + gradients, 0, 1);
  e.add(sharded ? "reduce-scatter of gradients" : "all-reduce of gradients", 0, 1, 0,
        (sharded ? 1 : 2) * share * 4 * reduced, e.collective_rate(), "backward");
  e.add("momentum and AdamW", 0, 1, kept * (16 * matrices + 28 * others), 0, 1);
  if (sharded) e.add("gather of momentum", 0, 1, 0, exchanged, e.exchange_rate(), "spectral recurrence");
  e.add("spectral recurrence", load, longest > 0 ? load / longest : 1, 0, 0, 1);
  e.add("scatter of updates", 0, 1, 0, scattered, e.exchange_rate(), "spectral recurrence");
  e.add("weight update", 0, 1, kept * (12 + weight_bytes) * matrices, 0, 1);
  const auto gather = [&](const char* name, double elements, const char* behind) {
    e.add(name, 0, 1, 0, share * weight_bytes * elements, e.collective_rate(), behind);
  };
  if (plan.gathers) {
    const std::int64_t forward = plan.gathers->forward().gathered, both = plan.gathers->training().gathered;
    gather("all-gather of weights", static_cast<double>(passes * forward), "forward");
    gather("all-gather of weights again", static_cast<double>(passes * (both - forward)), "backward");
  } else if (sharded) {
    gather("all-gather of weights", padded, "forward");
  }
  return e.finish();
}

std::string roofline_table(const Roofline& r, const StartFacts& f, const Machine& machine) {
  Table table({"phase", "work", "memory", "sent", "at least", "bound by", "hides behind"},
              {Align::left, Align::right, Align::right, Align::right, Align::right, Align::left, Align::left});
  table.caption(fmt::format("Least time of a step per rank: {}, {} ranks on {}, {} tokens, compute {}",
                            f.model.description(), f.plan.shards.world_size(), machine.name,
                            core::format_count(static_cast<double>(f.batches.batch * f.config.data.sequence)),
                            f.config.parallel.compute));
  const auto bytes = [](double b) { return b == 0 ? std::string() : core::format_bytes(std::llround(b)); };
  for (const Phase& p : r.phases)
    table.add({p.name, p.flops == 0 ? std::string() : fmt::format("{:.3g} Tflop", p.flops * 1e-12), bytes(p.memory),
               bytes(p.sent), core::format_duration(p.seconds), p.bound, p.behind});
  table.rule();
  table.add({"step", "", "", "", core::format_duration(r.seconds), r.bounding_phase, ""});
  table.add({"nothing hidden", "", "", "", core::format_duration(r.seconds_in_line), "", ""});
  return table.render();
}

}  // namespace muonp::launch
