#include "launch/bench/cluster_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/config/config.h"

namespace muonp::launch {

using core::Fields;

namespace {

constexpr core::RealRange kRate{.min = 1}, kLatency{.min = 0, .max = 3600};
constexpr double kMissing = -1;  // outside of every range: the file has to say it

void describe_products(Fields& f, const char* name, std::vector<dist::ProductRate>& rates, const char* meaning) {
  static constexpr std::array<std::string_view, 4> types = {"float32", "tf32", "bfloat16", "float16"};
  f.section_list(
      name, rates.size(), [&](std::size_t n) { rates.resize(n); },
      [&](std::size_t i, Fields& entry) {
        std::string type(core::name_of(rates[i].type));
        entry.choice("type", type, types, "storage of the factors");
        entry.real("size", rates[i].size, kRate, "n of a product of [n, n] with [n, n]; spectral: the smaller side");
        entry.real("flops_per_second", rates[i].flops_per_second, kRate, "that it reaches [flop/s]");
        rates[i].type = core::parse_dtype(type);
      },
      meaning);
}

void describe_links(Fields& f, std::vector<dist::LinkRate>& links) {
  f.section_list(
      "links", links.size(), [&](std::size_t n) { links.resize(n, {.latency = kMissing}); },
      [&](std::size_t i, Fields& entry) {
        std::string pattern(name_of(links[i].pattern));
        std::int64_t ranks = links[i].ranks;
        entry.choice("pattern", pattern, dist::kPatterns, "what ranks say to each other; values: a few doubles each");
        entry.integer("ranks", ranks, {.min = 2, .max = 65536}, "of one host that take part");
        entry.real("latency_seconds", links[i].latency, kLatency, "of each round of messages [s]");
        entry.real("bytes_per_second", links[i].bytes_per_second, kRate, "that a rank sends [B/s]");
        for (std::size_t p = 0; p < std::size(dist::kPatterns); ++p)
          if (dist::kPatterns[p] == pattern) links[i].pattern = static_cast<dist::Pattern>(p);
        links[i].ranks = static_cast<int>(ranks);
      },
      "between the ranks of a host");
}

void describe_compressors(Fields& f, std::vector<dist::CompressorRate>& rates) {
  f.section_list(
      "compressors", rates.size(), [&](std::size_t n) { rates.resize(n); },
      [&](std::size_t i, Fields& entry) {
        entry.text("kind", rates[i].kind, "first word of compression.to_owner", core::Presence::required);
        entry.real("encode_bytes_per_second", rates[i].encode, kRate, "of the float32 matrix [B/s]");
        entry.real("decode_bytes_per_second", rates[i].decode, kRate, "of the float32 matrix [B/s]");
      },
      "compressors; of those that are not listed the memory is the bound");
}

void describe_rates(Fields& f, dist::HostRates& rates) {
  std::int64_t ranks = rates.ranks;
  f.integer("ranks", ranks, {.min = 0, .max = 65536}, "of a host that compute at once with these rates; 0: any number");
  rates.ranks = static_cast<int>(ranks);
  f.real("memory_bytes_per_second", rates.memory, kRate, "that a rank reads and writes [B/s]");
  f.real("launch_seconds", rates.launch_seconds, kLatency, "of the host, for each kernel [s]");
  f.real("read_seconds", rates.read_seconds, kLatency, "until the host has a number that the device computed [s]");
  f.real("overlap", rates.overlap, {.min = 0, .max = 1},
         "with parallel.overlap: the part of the shorter of computing and communicating that costs no time");
  f.real("forward_traffic", rates.forward_traffic, {.min = 0},
         "bytes that a forward pass moves beside its products, by the bytes of activations it keeps");
  f.real("backward_traffic", rates.backward_traffic, {.min = 0}, "the same of a backward pass");
  describe_products(f, "products", rates.products, "matrix products");
  describe_products(f, "spectral", rates.spectral, "spectral steps");
  describe_links(f, rates.links);
  describe_compressors(f, rates.compressors);
}

constexpr double kGib = 1 << 30;

// Words that a file has to say, and that are one of a few.
constexpr std::array<std::string_view, 3> kSources = {"published", "estimated", "measured"};
constexpr std::array<std::string_view, 2> kDevices = {"cpu", "gpu"};

void require_one_of(std::span<const std::string_view> valid, const std::string& word, const std::string& file,
                    const char* key) {
  if (std::ranges::find(valid, word) == valid.end())
    core::fail("{}: {}: '{}' is not a valid value; valid values are {}", file, key, word, fmt::join(valid, ", "));
}

void describe(Fields& f, dist::Cluster& cluster, std::string& device) {
  std::int64_t hosts = cluster.hosts, ranks = cluster.ranks_per_host;
  double memory = cluster.memory_bytes / kGib;
  f.text("name", cluster.name, "for people", core::Presence::required);
  f.text("source", cluster.source, "where the rates are from: published, estimated or measured", core::Presence::required);
  f.text("device", device, "of a rank: cpu or gpu", core::Presence::required);
  f.integer("hosts", hosts, {.min = 1, .max = 65536}, "hosts that there are");
  f.integer("ranks_per_host", ranks, {.min = 1, .max = 65536}, "most ranks of a host; larger jobs fill their hosts");
  f.real("memory_gib", memory, {.min = 0.001}, "of a GPU; of a CPU's host, whose ranks share it [GiB]");
  f.section(
      "network",
      [&](Fields& n) {
        n.real("latency_seconds", cluster.network_latency, kLatency, "of each round of messages between hosts [s]");
        n.real("bytes_per_second", cluster.network_bytes, {.min = 0},
               "that a host sends to others, all of its adapters together; needed where there are several hosts [B/s]");
      },
      "between hosts");
  f.section_list(
      "rates", cluster.rates.size(),
      [&](std::size_t n) {
        cluster.rates.resize(n, {.ranks = static_cast<int>(kMissing),
                                 .launch_seconds = kMissing,
                                 .read_seconds = kMissing,
                                 .overlap = kMissing,
                                 .forward_traffic = kMissing,
                                 .backward_traffic = kMissing});
      },
      [&](std::size_t i, Fields& entry) { describe_rates(entry, cluster.rates[i]); }, "of a rank");
  cluster.gpus = device == "gpu";
  cluster.hosts = static_cast<int>(hosts);
  cluster.ranks_per_host = static_cast<int>(ranks);
  cluster.memory_bytes = memory * kGib;
}

}  // namespace

dist::Cluster read_cluster(const std::string& file) {
  dist::Cluster cluster;
  std::string device;
  core::read_config(file, {}, [&](Fields& f) { describe(f, cluster, device); });
  require_one_of(kSources, cluster.source, file, "source");
  require_one_of(kDevices, device, file, "device");
  cluster.validate();
  return cluster;
}

std::string cluster_text(dist::Cluster cluster) {
  std::string device = cluster.gpus ? "gpu" : "cpu";
  return core::write_config([&](Fields& f) { describe(f, cluster, device); });
}

}  // namespace muonp::launch
