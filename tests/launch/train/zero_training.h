// A tiny GPT, or Llama, trained by ranks of any kind, with all that is recorded, allocated and planned of it.
#pragma once

#include <string>
#include <vector>

#include "core/device/device.h"
#include "dist/comm/communicator.h"
#include "optim/plan/execution_plan.h"

namespace muonp::test {

struct ZeroRun {
  int zero = 0, passes = 1, prefetch = 1;
  bool overlap = false, recompute = false, offload = false, tied = true;
  std::int64_t bucket_elements = 150;  // layers are larger, and cut
  core::Dtype weight_dtype = core::Dtype::float32;
  std::int64_t batch = 0;      // of all ranks; 0: that of their number
  std::string family = "gpt";  // others learn from sequences of two documents
  std::string lora = "";       // b_only, both or whitened: adapters alone are trained, by that rule
};

// A multiple of twice the number of ranks, 1 to 5 or 7.
std::int64_t zero_batch(int ranks);
// MUONP_ZERO_STEPS, or else 20, but 2 on the stand-in for GPUs, where a step takes long.
int zero_steps();

// Loss of every step, over the whole batch. Expects that frozen weights stay as they are, and that calls and bytes of every
// step, and the bytes that the allocator counts at its peak, are those of the plan. Collective.
std::vector<double> train_zero(dist::Communicator& communicator, core::Device& device, const ZeroRun& run);

// Two texts of greedy tokens from the initial weights. Collective.
std::vector<std::vector<std::int32_t>> generate_zero(dist::Communicator& communicator, core::Device& device,
                                                     const ZeroRun& run, bool cache);

// On one CPU, at stage 0, with the batch of so many ranks.
const std::vector<double>& zero_reference(int ranks, const std::string& family = "gpt", const std::string& lora = "");
void expect_equal_losses(const std::vector<double>& losses, int ranks, const std::string& family = "gpt",
                         const std::string& lora = "");

}  // namespace muonp::test
