// What only GPUs have, on those of the stand-in (tests/cuda_host). The other tests of the program run on them too.
#include <cmath>
#include <cstdlib>

#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

// An environment variable for the programs that a test starts.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { before_.empty() ? unsetenv(name_) : setenv(name_, before_.c_str(), 1); }

 private:
  const char* name_;
  std::string before_;
};

class Gpu : public ProgramTest {
 protected:
  static std::vector<std::string> settings(const char* device, const std::vector<std::string>& more) {
    std::vector<std::string> all = {std::string("device=") + device};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void expect_equal_losses(const std::string& a, const std::string& b) const {
    const std::vector<double> x = metric(a, "loss"), y = metric(b, "loss");
    ASSERT_EQ(x.size(), steps());
    ASSERT_EQ(y.size(), steps());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-4 * x[i]) << b << ", step " << i + 1;
  }
};

TEST_F(Gpu, LossesAreTheCpusWithDropoutRotarySwigluAndAccumulation) {
  const std::vector<std::string> model = {"model.dropout=0.1",   "model.positions=rotary",  "model.activation=swiglu",
                                          "model.norm=rms_norm", "model.head_chunk_rows=8", "data.micro_batch=2",
                                          "data.sequence=16"};
  train("cpu", settings("cpu", model));
  train("gpu", settings("cuda", model), 2);
  expect_equal_losses("cpu", "gpu");
}

// Streams are threads with random delays here: a missing event changes the losses.
TEST_F(Gpu, Pitfall31_StreamsInAnyInterleavingGiveTheSameLosses) {
  train("cpu", settings("cpu", {}));
  const Environment mode("CUDA_HOST_MODE", "async");
  for (const char* seed : {"1", "2"}) {
    const Environment seeded("CUDA_HOST_SEED", seed);
    for (const char* zero : {"2", "3"}) {
      const std::string name = fmt::format("seed{}-zero{}", seed, zero);
      train(name, settings("cuda", {std::string("parallel.zero=") + zero, "parallel.overlap=true"}), 2);
      expect_equal_losses("cpu", name);
    }
  }
}

TEST_F(Gpu, ACheckpointOfGpusOpensOnTheCpuAndAtAnotherWorldSize) {
  train("run", settings("cuda", {"run.steps=10", "schedule.kind=constant"}), 2);
  train("run", settings("cpu", {"schedule.kind=constant"}), 3);
  const Outcome eval = muonp("eval runs/run --json");
  EXPECT_EQ(eval.status, 0) << eval.err;
  EXPECT_EQ(metric("run", "loss").size(), steps());
}

// State and masters in host memory: saved, opened and moved to other ranks like any.
TEST_F(Gpu, OffloadedStateTrainsAndResumesAlike) {
  std::vector<std::string> half = {"parallel.compute=bfloat16", "parallel.zero=3", "run.steps=8", "schedule.kind=constant",
                                   "checkpoint.every=2"};
  std::vector<std::string> offload = half;
  offload.push_back("parallel.offload=optimizer");
  train("kept", settings("cuda", half), 2);
  train("offloaded", settings("cuda", offload), 2);
  EXPECT_EQ(metric("kept", "loss"), metric("offloaded", "loss"));
  const auto saved = [&](const std::string& run) {
    return core::CheckpointStore(path("runs/" + run + "/checkpoints")).open(6).entries();
  };
  EXPECT_EQ(saved("kept"), saved("offloaded"));  // in the background, from where each lies
  for (std::vector<std::string>* all : {&half, &offload}) (*all)[2] = "run.steps=12";
  train("kept", settings("cuda", offload), 3);
  train("offloaded", settings("cuda", half), 3);
  ASSERT_EQ(metric("kept", "loss").size(), 12u);
  EXPECT_EQ(metric("kept", "loss"), metric("offloaded", "loss"));
  const Outcome refused = muonp(train_arguments("refused", settings("cpu", {"parallel.offload=optimizer"})));
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("parallel.offload"), std::string::npos) << refused.err;
}

TEST_F(Gpu, BfloatSixteenLearnsLikeFloat32) {
  train("wide", settings("cuda", {}));
  train("narrow", settings("cuda", {"parallel.compute=bfloat16"}), 2);
  EXPECT_NEAR(metric("narrow", "loss").back(), metric("wide", "loss").back(), 0.02 * metric("wide", "loss").back());
}

// The default storage of the spectral step on a GPU.
TEST_F(Gpu, SpectralStepsInFloat16AndTf32LearnLikeFloat32) {
  train("float32", settings("cuda", {}));
  for (const char* storage : {"auto", "tf32"}) {
    train(storage, settings("cuda", {std::string("optimizer.matrices.dtype=") + storage}), 2);
    EXPECT_NEAR(metric(storage, "loss").back(), metric("float32", "loss").back(), 0.005 * metric("float32", "loss").back());
    EXPECT_NE(metric(storage, "loss"), metric("float32", "loss"));
  }
}

TEST_F(Gpu, WithoutADriverAutoTakesTheCpuAndSaysWhy) {
  const Environment driver("CUDA_HOST_DRIVER", "none");
  const Outcome automatic = muonp(train_arguments("auto", settings("auto", {})));
  EXPECT_EQ(automatic.status, 0) << automatic.err;
  EXPECT_NE(automatic.out.find("device: auto takes the CPU: no NVIDIA driver is installed here"), std::string::npos);
  const Outcome cuda = muonp(train_arguments("cuda", settings("cuda", {})), 2);
  EXPECT_NE(cuda.status, 0);
  EXPECT_NE(cuda.err.find("device: cuda: no NVIDIA driver"), std::string::npos) << cuda.err;
  EXPECT_LT(cuda.seconds, 30);
}

TEST_F(Gpu, AnOldDriverIsNamedWithBothVersions) {
  const Environment driver("CUDA_HOST_DRIVER", "old");
  const Outcome outcome = muonp(train_arguments("old", settings("cuda", {})));
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.err.find("driver is too old: it supports CUDA up to 11.4, this build needs 13.0"), std::string::npos)
      << outcome.err;
}

// By every command that would compute with the model or plan it for a GPU, before a run is there.
TEST_F(Gpu, LargerHeadsThanAttentionTakesAreRefused) {
  const std::vector<std::string> large = {"model.width=256", "model.heads=1", "run.steps=4"};
  const std::string set = " --set model.width=256 --set model.heads=1 --set device=cuda";
  const auto expect_refused = [&](const std::string& arguments, int ranks) {
    const Outcome outcome = muonp(arguments, ranks);
    EXPECT_EQ(outcome.status, 1) << arguments << outcome.out << outcome.err;
    EXPECT_NE(outcome.err.find("attention on a GPU takes heads of up to 128, not of 256; choose model.heads"),
              std::string::npos)
        << arguments << outcome.err;
  };
  expect_refused(train_arguments("large", settings("cuda", large)), 2);
  EXPECT_FALSE(core::exists(path("runs/large/metrics.jsonl")));
  expect_refused("plan tiny.yaml" + set, 0);
  expect_refused("bench step tiny.yaml" + set, 0);
  train("cpu", settings("cpu", large));
  expect_refused("generate runs/cpu --prompt a", 0);
  const Environment hidden("CUDA_HOST_DEVICES", "0");
  EXPECT_EQ(muonp("generate runs/cpu --prompt a --tokens 2").status, 0);
}

TEST_F(Gpu, OutOfMemorySaysWhatTheMemoryIsForAndWhatHelps) {
  const Environment memory("CUDA_HOST_MEMORY", "33800000");  // cuBLAS's workspace and a little more
  const Outcome outcome = muonp(train_arguments("small", settings("cuda", {})), 2);
  EXPECT_NE(outcome.status, 0);
  for (const char* part : {"out of memory on rank", "bytes free", "weights", "activations", "data.micro_batch"})
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << "\n" << outcome.err;
  EXPECT_LT(outcome.seconds, 30);
}

TEST_F(Gpu, ASecondProcessOnAGpuIsRefused) {
  for (const char* devices : {"1", "2"}) {
    const Environment visible("CUDA_HOST_DEVICES", devices);
    const Outcome outcome = muonp(train_arguments("shared", settings("cuda", {})), 3);
    EXPECT_NE(outcome.status, 0);
    EXPECT_NE(outcome.err.find("start one rank per GPU"), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("parallel.transport: mpi"), std::string::npos) << outcome.err;
    EXPECT_LT(outcome.seconds, 30);
  }
}

TEST_F(Gpu, RanksThatTalkThroughMpiShareAGpuAndLearnAlike) {
  train("cpu", settings("cpu", {}));
  train("nccl", settings("cuda", {"parallel.zero=2"}), 2);
  const Environment visible("CUDA_HOST_DEVICES", "1");
  for (const auto& [ranks, overlap] : {std::pair{2, "false"}, {2, "true"}, {3, "true"}, {4, "false"}}) {
    const std::string name = fmt::format("mpi{}-{}", ranks, overlap);
    train(name, settings("cuda", {"parallel.transport=mpi", "parallel.zero=2", std::string("parallel.overlap=") + overlap}),
          ranks);
    expect_equal_losses("cpu", name);
    if (ranks == 2) {  // a sum of two has one order
      EXPECT_EQ(metric(name, "loss"), metric("nccl", "loss")) << name;
    }
  }
}

}  // namespace muonp::e2e
