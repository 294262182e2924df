// The program on this machine's GPUs, however many there are.
#include "tests/e2e/program.h"

namespace muonp::e2e {

class RealGpu : public ProgramTest {
 protected:
  int needed_gpus() const override { return 1; }
};

TEST_F(RealGpu, LossesAreTheCpusOnEveryNumberOfGpus) {
  train("cpu", {"device=cpu"});
  const std::vector<double> expected = metric("cpu", "loss");
  ASSERT_EQ(expected.size(), steps());
  for (int ranks = 1; ranks <= std::min(4, core::cuda_device_count()); ++ranks)
    for (const int zero : {0, 1, 2}) {
      const std::string name = fmt::format("np{}-zero{}", ranks, zero);
      train(name, {"device=cuda", fmt::format("parallel.zero={}", zero), "parallel.overlap=true"}, ranks);
      const std::vector<double> losses = metric(name, "loss");
      ASSERT_EQ(losses.size(), steps());
      for (std::size_t i = 0; i < losses.size(); ++i)
        EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << name << ", step " << i + 1;
    }
}

}  // namespace muonp::e2e
