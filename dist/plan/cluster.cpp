#include "dist/plan/cluster.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/index.h"

namespace muonp::dist {

std::string_view name_of(Pattern pattern) { return kPatterns[core::at(pattern)]; }

std::string_view name_of(Bound bound) {
  static constexpr std::array<std::string_view, kBounds> names = {"products", "memory", "host",
                                                                  "latency",  "links",  "network"};
  return names[core::at(bound)];
}

double product_size(double m, double n, double k) { return std::cbrt(m * n * k); }

double rounds_of(Pattern pattern, int ranks, bool gpus, bool is_short) {
  if (ranks == 1) return 0;
  const double logarithm = std::ceil(std::log2(ranks)), pairs = ranks - 1;
  if (pattern == Pattern::values) return logarithm;
  if (pattern == Pattern::exchange) return pairs;
  const bool at_once = !gpus && is_short;  // each rank gathers all copies
  return (gpus || at_once ? logarithm : pairs) * (pattern == Pattern::all_reduce && !at_once ? 2 : 1);
}

// ---- what a file may say ----

namespace {

class Check {
 public:
  explicit Check(const Cluster& cluster) : name_(cluster.name) {}
  void positive(const std::string& key, double value) const {
    if (!(value > 0) || !std::isfinite(value))
      core::fail("cluster {}: {}: {} is no rate or size; valid is a number above 0", name_, key, value);
  }
  void not_negative(const std::string& key, double value) const {
    if (!(value >= 0) || !std::isfinite(value))
      core::fail("cluster {}: {}: {}; valid is a number from 0 on", name_, key, value);
  }
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const {
    core::fail("cluster {}: {}: {}", name_, key, why);
  }

 private:
  const std::string& name_;
};

void check_products(const Check& check, const std::string& key, const std::vector<ProductRate>& rates) {
  if (rates.empty()) check.refuse(key, "no rate; at least that of float32 is needed");
  std::set<std::pair<core::Dtype, double>> met;
  for (const ProductRate& rate : rates) {
    check.positive(key + ".size", rate.size);
    check.positive(key + ".flops_per_second", rate.flops_per_second);
    if (!met.emplace(rate.type, rate.size).second)
      check.refuse(key, fmt::format("two rates of {} at size {}", core::name_of(rate.type), rate.size));
  }
}

void check_links(const Check& check, const std::string& key, const HostRates& rates, int ranks_per_host) {
  std::set<std::pair<Pattern, int>> met;
  for (const LinkRate& link : rates.links) {
    check.not_negative(key + ".latency_seconds", link.latency);
    check.positive(key + ".bytes_per_second", link.bytes_per_second);
    if (link.ranks < 2)
      check.refuse(key + ".ranks", fmt::format("{} ranks have nobody to talk to; valid is 2 or more", link.ranks));
    if (!met.emplace(link.pattern, link.ranks).second)
      check.refuse(key, fmt::format("two rates of {} between {} ranks", name_of(link.pattern), link.ranks));
  }
  if (std::min(rates.ranks == 0 ? ranks_per_host : rates.ranks, ranks_per_host) < 2) return;
  for (const std::string_view pattern : kPatterns)
    if (std::ranges::none_of(rates.links, [&](const LinkRate& link) { return name_of(link.pattern) == pattern; }))
      check.refuse(key, fmt::format("no rate of {}; {} are needed", pattern, fmt::join(kPatterns, ", ")));
}

void check_rates(const Check& check, const std::string& key, const HostRates& rates, int ranks_per_host) {
  check.positive(key + ".memory_bytes_per_second", rates.memory);
  check.not_negative(key + ".launch_seconds", rates.launch_seconds);
  check.not_negative(key + ".read_seconds", rates.read_seconds);
  check.not_negative(key + ".forward_traffic", rates.forward_traffic);
  check.not_negative(key + ".backward_traffic", rates.backward_traffic);
  if (!(rates.overlap >= 0 && rates.overlap <= 1))
    check.refuse(key + ".overlap", fmt::format("{}; valid is a number in [0, 1]", rates.overlap));
  check_products(check, key + ".products", rates.products);
  check_products(check, key + ".spectral", rates.spectral);
  check_links(check, key + ".links", rates, ranks_per_host);
  for (const CompressorRate& rate : rates.compressors) {
    check.positive(key + ".compressors.encode_bytes_per_second", rate.encode);
    check.positive(key + ".compressors.decode_bytes_per_second", rate.decode);
  }
}

}  // namespace

void Cluster::validate() const {
  const Check check(*this);
  if (hosts < 1 || ranks_per_host < 1) check.refuse("hosts", fmt::format("{} hosts of {} ranks", hosts, ranks_per_host));
  check.positive("memory_gib", memory_bytes);
  if (hosts > 1) {
    check.not_negative("network.latency_seconds", network_latency);
    check.positive("network.bytes_per_second", network_bytes);
  }
  if (rates.empty()) check.refuse("rates", "none are given");
  std::set<int> met;
  for (std::size_t i = 0; i < rates.size(); ++i) {
    const std::string key = fmt::format("rates.{}", i);
    check_rates(check, key, rates[i], ranks_per_host);
    if (!met.insert(rates[i].ranks).second)
      check.refuse(key + ".ranks", fmt::format("rates of {} ranks on a host are given twice", rates[i].ranks));
  }
}

// ---- as a job sees it ----

namespace {

const HostRates& rates_of(const Cluster& cluster, int on_host) {
  std::vector<int> known;
  for (const HostRates& rates : cluster.rates) {
    if (rates.ranks == on_host || rates.ranks == 0) return rates;
    known.push_back(rates.ranks);
  }
  core::fail(
      "cluster {} has rates of {} ranks on a host, and none of {}, which share its processors in another way; measured "
      "by mpirun -np {} muonp bench --write-cluster",
      cluster.name, fmt::join(known, ", "), on_host, on_host);
}

int ranks_on_host(const Cluster& cluster, int ranks) {
  MUONP_ASSERT(ranks >= 1, "{} ranks", ranks);
  if (ranks <= cluster.ranks_per_host) return ranks;
  const auto most = static_cast<std::int64_t>(cluster.hosts) * cluster.ranks_per_host;
  if (ranks > most)
    core::fail("--ranks {}: cluster {} has {} hosts of {} ranks, {} in all", ranks, cluster.name, cluster.hosts,
               cluster.ranks_per_host, most);
  if (ranks % cluster.ranks_per_host != 0)
    core::fail("--ranks {}: they do not fill hosts of {} (cluster {}); {} do, for example", ranks, cluster.ranks_per_host,
               cluster.name, ranks / cluster.ranks_per_host * cluster.ranks_per_host);
  return cluster.ranks_per_host;
}

double seconds_of(const Cluster& cluster, const char* what, const std::vector<ProductRate>& all, core::Dtype type,
                  const Work& work) {
  if (work.flops <= 0) return 0;
  const ProductRate *below = nullptr, *above = nullptr;  // the nearest ones
  std::set<std::string_view> known;
  for (const ProductRate& rate : all) {
    known.insert(core::name_of(rate.type));
    if (rate.type != type) continue;
    if (rate.size <= work.size && (below == nullptr || rate.size > below->size)) below = &rate;
    if (rate.size >= work.size && (above == nullptr || rate.size < above->size)) above = &rate;
  }
  if (below == nullptr && above == nullptr)
    core::fail("cluster {} has no {} rate of {}; it has {}", cluster.name, what, core::name_of(type),
               fmt::join(known, ", "));
  if (above == nullptr) return work.flops / below->flops_per_second;
  if (below == nullptr) return work.flops / (above->flops_per_second * work.size / above->size);
  if (below == above) return work.flops / below->flops_per_second;
  const double part = std::log(work.size / below->size) / std::log(above->size / below->size);
  return work.flops / (below->flops_per_second * std::pow(above->flops_per_second / below->flops_per_second, part));
}

}  // namespace

ClusterView::ClusterView(const Cluster& cluster, int ranks)
    : cluster_(&cluster), ranks_(ranks), on_host_(dist::ranks_on_host(cluster, ranks)) {
  rates_ = &rates_of(cluster, on_host_);
}

double ClusterView::memory_of_rank() const {
  return cluster_->gpus ? cluster_->memory_bytes : cluster_->memory_bytes / on_host_;
}

double ClusterView::product_seconds(core::Dtype type, const Work& work) const {
  return seconds_of(*cluster_, "product", rates_->products, type, work);
}

double ClusterView::spectral_seconds(core::Dtype type, const Work& work) const {
  return seconds_of(*cluster_, "spectral", rates_->spectral, type, work);
}

namespace {

// What a compressor moves through memory for each byte of a matrix where its rate is not known: it reads the matrix to find
// its scale or threshold, reads it again and writes; whoever decodes reads and writes what it adds to.
constexpr double kEncodeTraffic = 3, kDecodeTraffic = 2;

const CompressorRate* rate_of(const HostRates& rates, std::string_view kind) {
  const auto found = std::ranges::find(rates.compressors, kind, &CompressorRate::kind);
  return found == rates.compressors.end() ? nullptr : &*found;
}

}  // namespace

double ClusterView::encode_seconds(std::string_view kind, double bytes) const {
  const CompressorRate* rate = rate_of(*rates_, kind);
  return rate ? bytes / rate->encode : memory_seconds(kEncodeTraffic * bytes);
}

double ClusterView::decode_seconds(std::string_view kind, double bytes) const {
  const CompressorRate* rate = rate_of(*rates_, kind);
  return rate ? bytes / rate->decode : memory_seconds(kDecodeTraffic * bytes);
}

// Of the number of ranks that is nearest from below, else of the smallest one.
const LinkRate& ClusterView::link(Pattern pattern) const {
  const LinkRate *below = nullptr, *least = nullptr;
  for (const LinkRate& rate : rates_->links) {
    if (rate.pattern != pattern) continue;
    if (rate.ranks <= on_host_ && (below == nullptr || rate.ranks > below->ranks)) below = &rate;
    if (least == nullptr || rate.ranks < least->ranks) least = &rate;
  }
  MUONP_ASSERT(least, "a cluster file that passed its check has no {}", name_of(pattern));
  return below ? *below : *least;
}

// Of what a rank sends, the part that stays on its host goes over links and the rest through the host's adapters. In rings
// each host sends on what one of its ranks sends; in pairs all of its ranks send to all other hosts.
Elapsed ClusterView::communication(Pattern pattern, double sent, double rounds) const {
  if (ranks_ == 1) return {};
  const bool far = ranks_ > on_host_;
  const bool rings = cluster_->gpus && pattern != Pattern::exchange && pattern != Pattern::values;
  const double others = ranks_ - 1, share = static_cast<double>(ranks_ - on_host_) / others;
  const double near_bytes = far && !rings ? sent * (1 - share) : sent;
  const double far_bytes = !far ? 0 : rings ? sent : sent * share * on_host_;
  const double on_links = on_host_ > 1 ? near_bytes / link(pattern).bytes_per_second : 0;
  const double on_network = far ? far_bytes / cluster_->network_bytes : 0;
  const double waiting = rounds * (far ? cluster_->network_latency : link(pattern).latency);
  return {waiting, std::max(on_links, on_network), on_network > on_links ? Bound::network : Bound::links};
}

Elapsed ClusterView::communication(const PairMessages& messages) const {
  const LinkRate& rate = link(Pattern::exchange);
  const double on_links = messages.near / rate.bytes_per_second;
  const double on_network = messages.far > 0 ? messages.far * on_host_ / cluster_->network_bytes : 0;
  const double waiting = messages.near_rounds * rate.latency + messages.far_rounds * cluster_->network_latency;
  return {waiting, std::max(on_links, on_network), on_network > on_links ? Bound::network : Bound::links};
}

}  // namespace muonp::dist
