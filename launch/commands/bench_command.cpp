#include "launch/commands/bench_command.h"

#include <CLI/CLI.hpp>

namespace muonp::launch {

void add_bench_command(CLI::App& app, Context& context) {
  CLI::App* bench = app.add_subcommand("bench", "Measure speed: of the spectral power, or of a training step");
  bench->require_subcommand(1);
  bench->footer(
      "Examples:\n"
      "  muonp bench spectral --rows 1024 --cols 1024 --p 1/2 --compare newton_schulz5\n"
      "  muonp bench step configs/quickstart.yaml --json");
  add_bench_spectral_command(*bench, context);
  add_bench_step_command(*bench, context);
}

}  // namespace muonp::launch
