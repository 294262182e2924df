// muonp bench: one nested subcommand a subject.
#pragma once

#include "launch/commands/cli.h"

namespace muonp::launch {

inline constexpr core::IntegerRange kRepeats{.min = 1, .max = 100000};

void add_bench_spectral_command(CLI::App& bench, Context& context);
void add_bench_step_command(CLI::App& bench, Context& context);
void add_bench_collectives_command(CLI::App& bench, Context& context);
void add_bench_checkpoint_command(CLI::App& bench, Context& context);
void add_bench_scaling_command(CLI::App& bench, Context& context);

}  // namespace muonp::launch
