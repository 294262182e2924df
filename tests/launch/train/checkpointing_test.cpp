#include "launch/train/checkpointing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/device/host_view.h"
#include "core/files/checkpoint_pieces.h"
#include "tests/support/temporary_folder.h"

namespace muonp::launch {
namespace {

// Some 30 MB of state, so that writing takes longer than the change below.
RunConfig config_in(const test::TemporaryFolder& folder) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += fmt::format("{} ", i);
  test::put(folder / "text", text);
  RunConfig config;
  config.run = {.name = "run", .dir = folder / "runs", .steps = 10, .seed = 1};
  config.data.train = folder / "text";
  config.data.sequence = 8;
  config.data.batch = 2;
  config.model.gpt.layers = config.model.gpt.heads = 1;
  config.model.gpt.width = 32;
  config.model.gpt.context = 8;
  config.model.gpt.vocabulary = 80000;
  config.checkpoint.every = 1;
  return resolve(config);
}

std::vector<float> values_of(Session& session, const optim::StateTensor& t) {
  const core::HostView view(session.device().queue(), t.data, core::Access::read);
  return {view.data<float>(), view.data<float>() + t.data.size()};
}

// What training does to the state while it is being written.
void overwrite(Session& session, const optim::StateTensor& t) {
  const core::HostView view(session.device().queue(), t.data, core::Access::write);
  std::ranges::fill(view.span<float>(), -7.0f);
  view.upload();
}

}  // namespace

TEST(Checkpointing, ASaveInTheBackgroundHoldsTheStateOfItsOwnStep) {
  const test::TemporaryFolder folder;
  const RunConfig config = config_in(folder);
  SessionSettings settings;
  settings.device = "cpu";
  settings.threads = 1;
  Session session(settings);
  Learner learner(config, session);
  SaveReport report;
  const std::int64_t before = session.device().allocator()->use().of(core::Category::other);
  Checkpointing checkpointing(config, session, learner, [&](const SaveReport& saved) { report = saved; });
  EXPECT_EQ(session.device().allocator()->use().of(core::Category::other) - before,
            learner.optimizer().plan().snapshot_bytes(0));
  learner.optimizer().initialize(1);
  const std::vector<optim::StateTensor> state = learner.optimizer().state_to_save();
  std::map<std::string, std::vector<float>> expected;
  for (const optim::StateTensor& t : state) expected[t.name] = values_of(session, t);

  checkpointing.save({.step = 3, .updates = 3});
  std::for_each(state.rbegin(), state.rend(), [&](const optim::StateTensor& t) { overwrite(session, t); });
  checkpointing.finish();

  const core::Checkpoint saved = core::CheckpointStore(folder / "runs/run/checkpoints").open(3);
  const core::PieceReader reader(saved, kStatePrefix);
  EXPECT_EQ(reader.names().size(), expected.size());
  for (const optim::StateTensor& t : state) {
    std::vector<float> values(static_cast<std::size_t>(t.data.size()));
    reader.read_float(t.name, t.shape, core::Dtype::float32, t.interval.begin, t.interval.end, values.data());
    EXPECT_TRUE(values == expected.at(t.name)) << t.name;
  }
  EXPECT_EQ(report.step, 3);
  EXPECT_GT(report.blocked_seconds, 0);
  EXPECT_LE(report.longest_seconds, report.blocked_seconds);
  EXPECT_LE(report.blocked_seconds, report.total_seconds);
}

}  // namespace muonp::launch
