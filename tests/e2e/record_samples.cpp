// Trains like `muonp train`, and writes down what this rank reads: each line "STEP TOKEN TOKEN ..." of
// OUT-<rank> is one sequence of a batch. It stops, with a checkpoint, after STOP steps.
//
//   record_samples CONFIG OUT STOP [KEY=VALUE ...]
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "core/base/error.h"
#include "launch/train/checkpointing.h"

using namespace muonp;

namespace {

void record(int argc, char** argv, launch::Session& session) {
  const std::string out = argv[2];
  const launch::RunConfig config =
      launch::resolve(launch::load_run_config(argv[1], std::vector<std::string>(argv + 4, argv + argc)));
  session.open(launch::session_settings(config, "record_samples"));
  launch::Learner learner(config, session);
  launch::Checkpointing checkpointing(config, session, learner);
  launch::RunProgress progress;
  if (const auto resumed = checkpointing.resume())
    progress = *resumed;
  else
    learner.optimizer().initialize(static_cast<std::uint64_t>(config.run.seed));
  std::ofstream file(fmt::format("{}-{}", out, session.rank()));
  learner.observe_batches([&](const models::TokenBatch& batch) {
    for (std::int64_t row = 0; row < batch.inputs.dim(0); ++row)
      file << progress.step << ' ' << fmt::format("{}", fmt::join(batch.inputs[row].span<std::int32_t>(), " ")) << '\n';
  });
  for (const std::int64_t stop = std::atoll(argv[3]); progress.step < stop; ++progress.step)
    learner.step(progress.step, false);
  progress.updates = learner.optimizer().steps();
  checkpointing.save(progress);
  checkpointing.finish();
}

}  // namespace

int main(int argc, char** argv) {
  launch::Session session;
  try {
    if (argc < 4) core::fail("CONFIG OUT STOP are needed");
    record(argc, argv, session);
    session.close();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "record_samples: %s\n", error.what());
    if (session.mpi() != nullptr) session.mpi()->abort_all(error.what(), 1);
    return 1;
  }
}
