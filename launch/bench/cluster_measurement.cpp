#include "launch/bench/cluster_measurement.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/base/hostname.h"
#include "dist/comm/async.h"
#include "dist/comm/decorators.h"
#include "launch/bench/collectives_benchmark.h"
#include "launch/bench/device_rates.h"
#include "launch/train/plain_product.h"

namespace muonp::launch {

using dist::OperationKind;
using dist::Pattern;

namespace {

OperationKind kind_of(Pattern pattern) {
  static constexpr OperationKind kinds[] = {OperationKind::all_reduce, OperationKind::reduce_scatter,
                                            OperationKind::all_gather, OperationKind::exchange,
                                            OperationKind::all_reduce_values};
  return kinds[static_cast<std::size_t>(pattern)];
}

// Bytes that a rank sends in a case of so many elements, at most.
double sent_in(const CollectiveResult& result, int ranks) {
  if (result.what.kind == OperationKind::exchange) return static_cast<double>(result.bytes) * (ranks - 1) / ranks;
  return static_cast<double>(
      dist::bytes_sent({.kind = result.what.kind, .count = result.count, .dtype = result.what.dtype}, 0, ranks));
}

struct Line {  // seconds = base + sent / rate
  double base = 0, rate = 0;
};

class LinkRates {
 public:
  LinkRates(Session& session, double budget) : session_(session), budget_(budget) {}
  // Through a message of 128 KiB a rank, which is longer than what is sent otherwise, and one of 16 MiB in all.
  Line line(Pattern pattern) {
    const std::int64_t n = session_.world_size();
    const bool values = pattern == Pattern::values;
    const CollectiveResult small = run(pattern, values ? 16 : n << 17);
    const CollectiveResult large = run(pattern, values ? 8192 : std::max<std::int64_t>(16 << 20, n << 19));
    const int ranks = session_.world_size();
    const double more = sent_in(large, ranks) - sent_in(small, ranks);
    const double longer = large.timing.median - small.timing.median;
    const double rate = longer > 0 ? more / longer : sent_in(large, ranks) / large.timing.median;
    return {std::max(small.timing.median - sent_in(small, ranks) / rate, 0.0), rate};
  }

 private:
  CollectiveResult run(Pattern pattern, std::int64_t bytes) {
    const CollectiveResult result =
        run_collective(session_.communicator(), session_.device(), {.kind = kind_of(pattern), .bytes = bytes}, budget_);
    if (result.wrong > 0) core::fail("{} gave {} wrong results", name_of(pattern), result.wrong);
    return result;
  }
  Session& session_;
  double budget_;
};

constexpr Pattern kAll[] = {Pattern::all_reduce, Pattern::reduce_scatter, Pattern::all_gather, Pattern::exchange,
                            Pattern::values};

// How much of communication costs no time beside products: of a product, a sum over ranks, and both at once.
double measure_overlap(Session& session, double budget) {
  core::Device& device = session.device();
  dist::Communicator& communicator = session.communicator();
  const bool gpu = device.kind() == core::DeviceKind::cuda;
  const PlainProduct product(device, 512, 512, core::Dtype::float32);
  const core::Tensor data = core::Tensor::zeros(device, {1 << 21}, core::Dtype::float32, core::Category::other);
  const auto send = [&] { communicator.all_reduce(dist::Span(data), dist::Reduce::sum); };
  const auto timed = [&](const std::function<void()>& work) {
    return time_together(communicator, device.queue(), work, budget).median;
  };
  const double sending = timed(send), once = timed([&] { product.run(); });
  const int products = std::max(1, static_cast<int>(std::lround(sending / once)));  // about as long
  const auto compute = [&] {
    for (int i = 0; i < products; ++i) product.run();
  };
  const double computing = timed(compute);
  auto async = gpu ? std::make_unique<dist::AsyncQueue>(communicator)
                   : std::make_unique<dist::AsyncQueue>(dist::AsyncQueue::Mode::worker);
  const double both = timed([&] {
    const auto ticket = async->submit(send);
    compute();
    async->wait(ticket);
  });
  return std::clamp((sending + computing - both) / std::min(sending, computing), 0.0, 1.0);
}

double host_memory() { return static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE)); }

class Measurement {
 public:
  Measurement(Session& session, const ClusterMeasurement& options, std::optional<dist::Cluster> known)
      : session_(session),
        options_(options),
        n_(session.world_size()),
        on_host_(session.local_size()),
        hosts_(session.mpi() ? session.mpi()->hosts() : 1) {
    if (n_ != hosts_ * on_host_) core::fail("{} ranks on {} hosts: to measure, each host has to have as many", n_, hosts_);
    if (known)
      cluster_ = *std::move(known);
    else
      cluster_.name = core::hostname();
  }
  dist::Cluster run() {
    describe();
    dist::HostRates rates = rates_before();
    measure_device(session_, options_.largest, options_.budget_seconds, rates);
    LinkRates links(session_, options_.budget_seconds);
    rates.overlap = n_ > 1 ? measure_overlap(session_, options_.budget_seconds) : 1;
    if (hosts_ > 1)
      network(links);
    else if (n_ > 1)
      between_ranks(links, rates);
    std::erase_if(cluster_.rates, [&](const dist::HostRates& other) { return other.ranks == on_host_; });
    cluster_.rates.push_back(std::move(rates));
    std::ranges::sort(cluster_.rates, {}, &dist::HostRates::ranks);
    cluster_.validate();
    return std::move(cluster_);
  }

 private:
  void describe() {
    if (!options_.name.empty()) cluster_.name = options_.name;
    cluster_.source = "measured";
    cluster_.gpus = session_.device().kind() == core::DeviceKind::cuda;
    cluster_.hosts = std::max(cluster_.hosts, hosts_);
    cluster_.ranks_per_host = hosts_ > 1 ? on_host_ : std::max(cluster_.ranks_per_host, on_host_);
    if (options_.memory_gib > 0) cluster_.memory_bytes = options_.memory_gib * (1 << 30);
    if (cluster_.memory_bytes > 0) return;
    if (cluster_.gpus) core::fail("--memory-gib is missing: how much of a GPU's memory a rank may use");
    cluster_.memory_bytes = host_memory();
  }
  // What ranks of one host say to each other is not measured by a job over several.
  dist::HostRates rates_before() const {
    for (const dist::HostRates& rates : cluster_.rates)
      if (rates.ranks == on_host_) return rates;
    if (hosts_ > 1 && on_host_ > 1)
      core::fail("{} ranks on each host: measure {} on one host first, into the same file", on_host_, on_host_);
    return {.ranks = on_host_};
  }
  void between_ranks(LinkRates& links, dist::HostRates& rates) {
    rates.links.clear();
    for (const Pattern pattern : kAll) {
      const Line line = links.line(pattern);
      rates.links.push_back({pattern, n_, line.base / rounds(pattern), line.rate});
    }
  }
  // By all_gather, which computes nothing: of what a rank sends the part that leaves its host, of all ranks of the host.
  void network(LinkRates& links) {
    const Line line = links.line(Pattern::all_gather);
    const double share = static_cast<double>(n_ - on_host_) / (n_ - 1);
    cluster_.network_bytes = line.rate * (cluster_.gpus ? 1 : share * on_host_);
    cluster_.network_latency = line.base / rounds(Pattern::all_gather);
  }
  double rounds(Pattern pattern) const { return dist::rounds_of(pattern, n_, cluster_.gpus, false); }

  Session& session_;
  const ClusterMeasurement& options_;
  int n_, on_host_, hosts_;
  dist::Cluster cluster_;
};

}  // namespace

dist::Cluster measure_cluster(Session& session, const ClusterMeasurement& options, std::optional<dist::Cluster> known) {
  return Measurement(session, options, std::move(known)).run();
}

}  // namespace muonp::launch
