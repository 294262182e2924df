// The least time a training step can take on a given machine: operations and bytes of each phase, from the cost models
// that the plans use, over the machine's published rates. A bound, not a forecast.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "launch/train/start_report.h"

namespace muonp::launch {

struct Machine {  // rates per GPU
  std::string name;
  double float32_flops, tf32_flops, float16_flops;  // dense products [flop/s]; bfloat16 as float16
  double memory_bytes;                              // device memory [B/s]
  double link_bytes, network_bytes;                 // within a node, and to other nodes, per direction [B/s]
  int gpus_per_node;
};
inline constexpr std::string_view kMachines[] = {"h100", "a100"};
const Machine& machine_of(std::string_view name);  // Error lists the valid names

struct Phase {
  std::string name;
  double flops = 0, memory = 0, sent = 0;  // per rank: operations, bytes of device memory, bytes to other ranks
  double seconds = 0;                      // the largest of the three over its rate
  std::string bound;                       // "products", "memory", "network" or "links"
  std::string behind;                      // the phase that it can hide behind; empty for none
};

struct Roofline {
  std::vector<Phase> phases;   // in the order of the step
  double seconds = 0;          // with everything hidden that can be
  double seconds_in_line = 0;  // one phase after the other
  std::string bounding_phase;  // the longest that is not hidden
};

// Weights and activations multiply at the rate of the plan's compute dtype, each group's spectral step at that of its
// storage.
Roofline roofline(const StartFacts& facts, const Machine& machine);

std::string roofline_table(const Roofline& roofline, const StartFacts& facts, const Machine& machine);

}  // namespace muonp::launch
