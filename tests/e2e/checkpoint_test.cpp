// Checkpoints as a user meets them: written in the background, listed, verified, exported.
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/files/checkpoint_pieces.h"
#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

using nlohmann::json;

class Checkpoints : public ProgramTest {
 protected:
  std::string checkpoint(const std::string& run, std::size_t step) const {
    return path(fmt::format("runs/{}/checkpoints/step-{:08}", run, step));
  }
};

namespace {
const std::vector<std::string> kSaveEvery10 = {"checkpoint.every=10", "checkpoint.keep=5"};
}

TEST_F(Checkpoints, WrittenInTheBackgroundOrNotTheFilesAreTheSame) {
  train("background", kSaveEvery10, 3);
  std::vector<std::string> settings = kSaveEvery10;
  settings.emplace_back("checkpoint.background=false");
  train("waiting", settings, 3);
  EXPECT_EQ(metric("background", "loss"), metric("waiting", "loss"));
  for (std::size_t step = 10; step <= steps(); step += 10)
    EXPECT_EQ(core::Checkpoint(checkpoint("background", step)).entries(),
              core::Checkpoint(checkpoint("waiting", step)).entries());
  for (const char* run : {"background", "waiting"}) {
    const std::vector<double> saved = metric(run, "checkpoint");
    ASSERT_EQ(saved.size(), steps() / 10) << run;
    for (std::size_t i = 0; i < saved.size(); ++i) EXPECT_EQ(saved[i], 10.0 * static_cast<double>(i + 1));
    for (const double seconds : metric(run, "checkpoint_blocked_seconds")) EXPECT_GT(seconds, 0);
  }
}

TEST_F(Checkpoints, OneThatIsDueBeforeTheLastIsWrittenWaitsAndSaysSoOnce) {
  const Outcome outcome = muonp(train_arguments("one", {"checkpoint.every=1", "checkpoint.keep=100"}), 2);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const std::size_t first = outcome.err.find("is still being written");
  if (first != std::string::npos) {
    EXPECT_EQ(outcome.err.find("is still being written", first + 1), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(metric("one", "checkpoint").size(), steps());
  EXPECT_EQ(muonp("checkpoint verify runs/one").status, 0);
}

TEST_F(Checkpoints, AreListed) {
  train("one", kSaveEvery10, 2);
  const Outcome table = muonp("checkpoint list runs/one");
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.out.find(" 20 "), std::string::npos) << table.out;
  const Outcome outcome = muonp("checkpoint list runs/one --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const json rows = json::parse(outcome.out);
  ASSERT_EQ(rows.size(), steps() / 10);
  EXPECT_EQ(rows[0].at("step"), 10);
  EXPECT_EQ(rows[0].at("world_size"), 2);
  EXPECT_EQ(rows[0].at("zero"), 1);
  EXPECT_EQ(rows[0].at("files"), 2);
  core::write_file(checkpoint("one", 10) + "/state-00000.safetensors", "short");
  const Outcome damaged = muonp("checkpoint list runs/one");
  EXPECT_EQ(damaged.status, 0);
  EXPECT_NE(damaged.out.find("step-00000010/state-00000.safetensors was truncated"), std::string::npos) << damaged.out;
  const Outcome none = muonp("checkpoint list .");
  EXPECT_EQ(none.status, 1);
  EXPECT_NE(none.err.find("no checkpoint is here"), std::string::npos) << none.err;
}

TEST_F(Checkpoints, Pitfall41_VerifyNamesEveryFileThatWasAltered) {
  train("one", kSaveEvery10, 2);
  EXPECT_EQ(muonp("checkpoint verify runs/one").status, 0);
  for (const char* name : {"state-00000.safetensors", "state-00001.safetensors"}) {
    const std::string file = checkpoint("one", 10) + "/" + name;
    std::string content = core::read_file(file);
    content[content.size() / 2] ^= 4;
    core::write_file(file, content);
  }
  const Outcome run = muonp("checkpoint verify runs/one");
  EXPECT_EQ(run.status, 1);
  for (const char* text : {"step-00000010/state-00000.safetensors was altered",
                           "step-00000010/state-00001.safetensors was altered", "step-00000020: whole"})
    EXPECT_NE(run.out.find(text), std::string::npos) << text << "\n" << run.out;
  EXPECT_NE(run.err.find(fmt::format("1 of {} checkpoints are damaged", steps() / 10)), std::string::npos) << run.err;
  EXPECT_EQ(muonp("checkpoint verify " + checkpoint("one", 20)).status, 0);
  EXPECT_EQ(muonp("checkpoint verify " + checkpoint("one", 10)).status, 1);
}

TEST_F(Checkpoints, ExportedWeightsAreWholeAndEvalReadsThem) {
  train("one", kSaveEvery10, 3);
  const Outcome outcome = muonp("checkpoint export runs/one w.safetensors --step 10");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const core::Checkpoint saved(checkpoint("one", 10));
  const core::PieceReader pieces(saved, "state");
  const core::SafetensorsReader file(path("w.safetensors"));
  std::size_t masters = 0;
  for (const std::string& name : pieces.names()) masters += name.ends_with("/master") ? 1 : 0;
  ASSERT_EQ(file.entries().size(), masters);
  for (const core::SafetensorsReader::Entry& e : file.entries()) {
    const std::string master = e.spec.name + "/master";
    EXPECT_EQ(e.spec.shape, pieces.shape(master));
    const std::int64_t size = core::element_count(e.spec.shape);
    std::vector<float> whole(static_cast<std::size_t>(size));
    pieces.read_float(master, e.spec.shape, core::Dtype::float32, 0, size, whole.data());
    EXPECT_EQ(0, std::memcmp(whole.data(), e.data, static_cast<std::size_t>(4 * size))) << e.spec.name;
  }
  const auto evaluated = [&](const std::string& which) {
    const Outcome eval = muonp("eval runs/one --json --checkpoint " + which);
    EXPECT_EQ(eval.status, 0) << eval.err;
    return json::parse(eval.out);
  };
  EXPECT_EQ(evaluated("w.safetensors"), evaluated("10"));
  ASSERT_EQ(muonp("checkpoint export runs/one b.safetensors --dtype bfloat16").status, 0);
  const double exact = evaluated("latest").at("loss"), rounded = evaluated("b.safetensors").at("loss");
  EXPECT_NEAR(rounded, exact, 0x1p-8 * exact);
  EXPECT_NE(rounded, exact);
  const Outcome generated = muonp("generate runs/one --tokens 5 --checkpoint b.safetensors");
  EXPECT_EQ(generated.status, 0) << generated.err;
  const Outcome none = muonp("checkpoint export runs/one x --step 11");
  EXPECT_EQ(none.status, 1);
  EXPECT_NE(none.err.find("it has steps 10, 20"), std::string::npos) << none.err;
}

}  // namespace muonp::e2e
