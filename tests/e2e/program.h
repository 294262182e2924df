// Runs the muonp program as a user would, in a folder of its own that is removed afterwards.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "launch/train/metrics.h"
#include "tests/support/test_device.h"

namespace muonp::e2e {

struct Outcome {
  int status = -1;  // exit status; 128 + signal if a signal ended it; -1: it was still there after the time-out
  std::string out, err;
  double seconds = 0;
};

// `while_running` is called a few times a second with the process id of the shell that was started.
Outcome run_shell(const std::string& command, double timeout_seconds = 120,
                  const std::function<void(int pid)>& while_running = {});

class ProgramTest : public testing::Test {
 protected:
  ProgramTest();
  ~ProgramTest() override;

  // Tests of ranks on GPUs take one each.
  virtual int needed_gpus() const { return 4; }
  void SetUp() override {
    if (!test::on_gpu() || core::cuda_device_count() >= needed_gpus()) return;
    GTEST_SKIP() << "this test takes " << needed_gpus() << " GPUs, " << core::cuda_device_count() << " are visible";
  }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void write(const std::string& name, const std::string& content) const;
  std::string read(const std::string& name) const;
  // The configuration of a tiny GPT on a made-up text of 40 kB, as YAML; and the file it is written to. With
  // MUONP_TEST_DEVICE=cuda it trains on GPUs.
  static std::string tiny_config();
  // Of that configuration. The stand-in's GPUs take a millisecond for a token.
  static std::size_t steps() { return test::on_gpu() ? 20 : 30; }
  static std::size_t sequence() { return test::on_gpu() ? 4 : 32; }
  std::string tiny() const { return path("tiny.yaml"); }

  // "muonp ARGUMENTS" in the folder, alone or on n ranks; or another program.
  std::string command(const std::string& arguments, int ranks = 0, const std::string& program = MUONP_PROGRAM) const;
  Outcome muonp(const std::string& arguments, int ranks = 0, double timeout_seconds = 120) const;
  // Trains the tiny configuration as run `name` with the settings; fails the test if the status is not 0.
  void train(const std::string& name, const std::vector<std::string>& settings, int ranks = 0) const;
  std::string train_arguments(const std::string& name, const std::vector<std::string>& settings) const;

  // `key` of every line of the run's metrics that has it, in order.
  std::vector<double> metric(const std::string& run, const std::string& key) const;
  // Largest relative difference between two runs' losses over all steps().
  double difference(const std::string& a, const std::string& b) const;

 private:
  std::string folder_;
};

}  // namespace muonp::e2e
