// What a cluster can do, as published or measured, and how long work takes there: the largest over resources of work over
// rate, and latencies. Pure functions; docs/planner.md has each as a formula. Rates are of one rank, per second; sizes in
// bytes and floating-point operations.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"

namespace muonp::dist {

// What ranks say to each other. `values` are a few doubles of each rank, on the host.
enum class Pattern : std::uint8_t { all_reduce, reduce_scatter, all_gather, exchange, values };
inline constexpr std::string_view kPatterns[] = {"all_reduce", "reduce_scatter", "all_gather", "exchange", "values"};
std::string_view name_of(Pattern pattern);

// What can bound a piece of work. Whatever takes time is one of them.
enum class Bound : std::uint8_t { products, memory, host, latency, links, network };
inline constexpr int kBounds = 6;
std::string_view name_of(Bound bound);

struct ProductRate {
  core::Dtype type = core::Dtype::float32;
  double size = 0;              // n of a product [n, n]·[n, n]
  double flops_per_second = 0;  // that it reaches
};
struct LinkRate {
  Pattern pattern = Pattern::all_reduce;
  int ranks = 0;                // of one host that take part
  double latency = 0;           // seconds of each round of messages
  double bytes_per_second = 0;  // that a rank sends
};
// Of a compressor that is not `identity`, by its first word ("top_k"); a device's memory bounds those that are not listed.
struct CompressorRate {
  std::string kind;
  double encode = 0, decode = 0;  // bytes of the float32 matrix per second
};

// Rates of a rank where so many ranks of a host work at once.
struct HostRates {
  int ranks = 0;              // 0: any number
  double memory = 0;          // bytes per second
  double launch_seconds = 0;  // of the host, for each kernel
  double read_seconds = 0;    // for the host to get a number that the device has computed
  double overlap = 1;         // of communication beside computation: the part of the shorter one that costs no time
  // Bytes of memory that a pass moves beside its products, by the bytes of activations that it keeps.
  double forward_traffic = 0, backward_traffic = 0;
  std::vector<ProductRate> products = {}, spectral = {};  // plain ones; those of a recurrence, by the matrix's smaller side
  std::vector<LinkRate> links = {};
  std::vector<CompressorRate> compressors = {};
};

struct Cluster {
  std::string name;
  std::string source;  // published | estimated | measured
  bool gpus = false;   // ranks are GPUs: a host submits work to them, and rings of NCCL connect them
  int hosts = 1, ranks_per_host = 1;
  double memory_bytes = 0;                        // of a GPU, else of a host, whose ranks share it
  double network_latency = 0, network_bytes = 0;  // of a round; that a host sends per second, all adapters together
  std::vector<HostRates> rates = {};

  // Error that begins with the cluster's name and the key: rates that are not positive, two of the same, none of a pattern.
  void validate() const;
};

struct Work {  // a product, or several of one kind
  double flops = 0;
  double size = 0;   // of one of them
  double bytes = 0;  // that it reads and writes at least; 0: not counted
};
// ∛(m n k) of a product [m, k]·[k, n]: the side of the square product of as many operations.
double product_size(double m, double n, double k);

struct PairMessages {                      // of one rank, to ranks of which it is known where they are
  double near = 0, far = 0;                // bytes to those of its host, and to others
  double near_rounds = 0, far_rounds = 0;  // one message after the other
};

struct Elapsed {  // seconds of an operation between ranks
  double waiting = 0, moving = 0;
  Bound moves = Bound::links;  // what bounds the second part
  double seconds() const { return waiting + moving; }
};

// Rounds of messages in an operation: between pairs N − 1, and ⌈log2 N⌉ where it is short; in rings and trees of GPUs ⌈log2
// N⌉; twice as many for an all_reduce that is not short or of GPUs. values: ⌈log2 N⌉; exchange with everyone: N − 1.
double rounds_of(Pattern pattern, int ranks, bool gpus, bool is_short);

// A cluster as a job of so many ranks sees it. The cluster outlives it.
class ClusterView {
 public:
  // Error where the ranks do not fill hosts, are more than there are, or rates of so many on a host are not known.
  ClusterView(const Cluster& cluster, int ranks);

  const Cluster& cluster() const { return *cluster_; }
  const HostRates& rates() const { return *rates_; }
  int ranks() const { return ranks_; }
  int ranks_on_host() const { return on_host_; }
  double memory_of_rank() const;

  // At its rate, whatever its bytes take. Error for a type whose rate is not known. Between two sizes rates are interpolated
  // in the logarithms of both; below the smallest they fall with the size; above the largest they stay.
  double product_seconds(core::Dtype type, const Work& work) const;
  double spectral_seconds(core::Dtype type, const Work& work) const;
  double memory_seconds(double bytes) const { return bytes / rates_->memory; }
  double encode_seconds(std::string_view kind, double bytes) const;
  double decode_seconds(std::string_view kind, double bytes) const;

  // `sent`: bytes that the busiest rank sends or receives; `rounds` of messages one after the other.
  Elapsed communication(Pattern pattern, double sent, double rounds) const;
  // While all ranks of its host send as much.
  Elapsed communication(const PairMessages& messages) const;
  double rounds(Pattern pattern, bool is_short) const { return rounds_of(pattern, ranks_, cluster_->gpus, is_short); }

 private:
  const LinkRate& link(Pattern pattern) const;

  const Cluster* cluster_;
  const HostRates* rates_;
  int ranks_, on_host_;
};

}  // namespace muonp::dist
