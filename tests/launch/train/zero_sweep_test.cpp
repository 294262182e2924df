// Training of a tiny GPT at every ZeRO stage and world size, by ranks that are threads, on the CPU or a GPU each.
#include <gmock/gmock.h>

#include "dist/comm/local.h"
#include "tests/launch/train/zero_training.h"
#include "tests/support/device_ranks.h"
#include "tests/support/test_device.h"

namespace muonp::test {
namespace {

void expect_as_reference(int ranks, const ZeroRun& run) {
  SCOPED_TRACE(fmt::format("{} ranks, stage {}, overlap {}, {} passes, prefetch {}, recompute {}, offload {}", ranks,
                           run.zero, run.overlap, run.passes, run.prefetch, run.recompute, run.offload));
  run_on_devices(ranks, [&](dist::Communicator& communicator, core::Device& device) {
    expect_equal_losses(train_zero(communicator, device, run), ranks, run.family, run.lora);
  });
}

TEST(ZeroSweep, Pitfall02_Pitfall26_Pitfall27_LossesBytesSentAndBytesHeldAtEveryStageAndWorldSize) {
  zero_reference(1);
  for (int ranks : {1, 2, 3, 4, 5, 7})
    for (int zero : {0, 1, 2, 3})
      for (const bool overlap : {false, true})
        expect_as_reference(ranks, {.zero = zero,
                                    .passes = 1 + (ranks + zero + overlap) % 2,
                                    .prefetch = ranks % 3,
                                    .overlap = overlap,
                                    .recompute = (ranks + zero) % 3 == 0});
}

// Projections that are parameters of their own and are read at once, biases, norms of heads, packed documents.
TEST(ZeroSweep, TheLlamaFamilyAtEveryStageAndWorldSize) {
  const auto expect = [](const char* family, int ranks, int zero) {
    expect_as_reference(ranks, {.zero = zero,
                                .passes = 1 + (ranks + zero) % 2,
                                .prefetch = ranks % 3,
                                .overlap = zero % 2 == 1,
                                .recompute = (ranks + zero) % 3 == 0,
                                .family = family});
  };
  for (int ranks : {1, 2, 3, 4})
    for (int zero : {0, 1, 2, 3}) expect("llama", ranks, zero);
  for (const char* family : {"mistral", "qwen2", "qwen3", "gpt2"})
    for (int zero : {1, 3}) expect(family, 3, zero);
}

// Weights are gathered for every pass of a generation, with a cache and without.
TEST(ZeroSweep, TextsOfShardedWeightsAreThoseOfOneRank) {
  for (const char* family : {"gpt2", "llama", "qwen2", "qwen3"})
    for (const bool cache : {true, false}) {
      const auto expected = generate_zero(*dist::make_local(), *make_cpu_test_device(1), {.family = family}, cache);
      EXPECT_EQ(expected.size(), 2u);
      run_on_devices(2, [&](dist::Communicator& communicator, core::Device& device) {
        EXPECT_EQ(generate_zero(communicator, device, {.zero = 3, .overlap = true, .family = family}, cache), expected);
      });
    }
}

// Adapters alone are trained, sent and kept; the weights beside them are frozen, and sharded all the same.
TEST(ZeroSweep, AdaptersBesideFrozenWeightsAtEveryStageAndWorldSize) {
  for (const auto& [family, lora] : {std::pair{"gpt2", "b_only"}, {"llama", "both"}, {"qwen3", "whitened"}})
    for (int ranks : {1, 2, 3, 4})
      for (int zero : {0, 1, 2, 3})
        expect_as_reference(ranks, {.zero = zero,
                                    .passes = 1 + (ranks + zero) % 2,
                                    .prefetch = ranks % 3,
                                    .overlap = zero % 2 == 1,
                                    .recompute = (ranks + zero) % 3 == 0,
                                    .family = family,
                                    .lora = lora});
}

TEST(ZeroSweep, FrozenWeightsHaveNoMastersInBfloat16) {
  std::vector<double> expected;
  for (int zero : {0, 1, 3})
    dist::run_ranks(2, [&](dist::Communicator& communicator) {
      const TestDevice device = make_cpu_test_device(1, core::Bfloat16::emulated);
      const auto losses = train_zero(
          communicator, *device, {.zero = zero, .weight_dtype = core::Dtype::bfloat16, .family = "llama", .lora = "b_only"});
      if (zero > 0) {
        for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]);
      }
      if (zero == 0 && communicator.rank() == 0) expected = losses;
    });
}

TEST(ZeroSweep, Stage3InWholeLayersAndFarAhead) {
  for (int prefetch : {0, 1, 2, 100})
    for (const bool recompute : {false, true})
      expect_as_reference(3, {.zero = 3,
                              .passes = 2,
                              .prefetch = prefetch,
                              .overlap = true,
                              .recompute = recompute,
                              .bucket_elements = 1 << 20});
}

// Weights of half the size, masters of their own.
TEST(ZeroSweep, Bfloat16AtStage3IsThatOfStage0) {
  std::vector<double> expected;
  for (int zero : {0, 3})
    dist::run_ranks(2, [&](dist::Communicator& communicator) {
      const TestDevice device = make_cpu_test_device(1, core::Bfloat16::emulated);
      const auto losses =
          train_zero(communicator, *device, {.zero = zero, .overlap = true, .weight_dtype = core::Dtype::bfloat16});
      if (zero == 3) {
        for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]);
      }
      if (zero == 0 && communicator.rank() == 0) expected = losses;
    });
}

TEST(ZeroSweep, UntiedHeadsAreReadOnce) {
  std::vector<double> expected;
  for (int zero : {0, 3})
    run_on_devices(2, [&](dist::Communicator& communicator, core::Device& device) {
      const auto losses = train_zero(communicator, device, {.zero = zero, .tied = false});
      if (zero == 3) {
        for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]);
      }
      if (zero == 0 && communicator.rank() == 0) expected = losses;
    });
}

TEST(ZeroSweep, OffloadIsRefusedOnACpu) {
  const TestDevice device = make_cpu_test_device(1);
  EXPECT_THAT(([&] { dist::run_ranks(1, [&](dist::Communicator& c) { train_zero(c, *device, {.offload = true}); }); }),
              testing::ThrowsMessage<core::Error>(testing::HasSubstr("parallel.offload: optimizer: a CPU keeps")));
}

// State and masters go through the GPU piece by piece; the losses stay the same bits.
TEST(ZeroSweep, OffloadedStateTrainsAlike) {
  if (!on_gpu()) GTEST_SKIP() << "state is offloaded from GPUs only";
  for (const auto dtype : {core::Dtype::float32, core::Dtype::bfloat16})
    for (int zero : {0, 1, 3}) {
      std::vector<double> expected;
      for (const bool offload : {false, true})
        run_on_devices(2, [&](dist::Communicator& communicator, core::Device& device) {
          const auto losses = train_zero(communicator, device, {.zero = zero, .offload = offload, .weight_dtype = dtype});
          if (offload) {
            EXPECT_EQ(losses, expected);
          }
          communicator.barrier();
          if (!offload && communicator.rank() == 0) expected = losses;
        });
    }
}

}  // namespace
}  // namespace muonp::test
