// Sweeps of a base that no test trains, and what their runs could have written.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "launch/sweep/run_outcome.h"
#include "tests/support/file_test.h"

namespace muonp::launch {

class SweepTest : public test::FileTest {
 protected:
  const std::string base = make("base.yaml", R"(run: {steps: 10}
data: {train: text.txt, sequence: 8, batch: 4}
model: {layers: 1, heads: 1, width: 8, context: 8}
)");

  // The file with the base and a folder of its own.
  SweepFile file(const std::string& yaml) const {
    return parse_sweep(fmt::format("base: {}\nfolder: {}\n{}", base, path("runs"), yaml), "sweep.yaml");
  }
  Expansion sweep(const std::string& yaml) const { return Expansion(file(yaml)); }
  template <class F>
  static std::string error_of(const F& f) {
    return test::message_of<core::Error>(f);
  }

  // A run with its steps, and these validation losses, spread over them.
  static void complete(const SweepRun& run, const std::vector<std::string>& losses) {
    std::filesystem::create_directories(run.folder);
    std::string lines;
    for (std::int64_t step = 1; step <= run.steps; ++step)
      lines += fmt::format("{{\"step\":{},\"loss\":5.0,\"grad_norm\":1.0,\"seconds\":{},\"sent_bytes\":{}}}\n", step,
                           0.5 * static_cast<double>(step), 100 * step);
    for (std::size_t i = 0; i < losses.size(); ++i)
      lines += fmt::format("{{\"step\":{},\"val_loss\":{}}}\n", run.steps - std::ssize(losses) + 1 + static_cast<int>(i),
                           losses[i]);
    test::put(run.folder + "/metrics.jsonl", lines);
    write_record(run, {RunState::complete, ""});
  }
};

}  // namespace muonp::launch
