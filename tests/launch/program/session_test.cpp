#include "launch/program/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE"}) unsetenv(name);
  }
};

TEST_F(SessionTest, CoresAreSharedOutToTheRanksOfAHost) {
  EXPECT_EQ(threads_per_rank(0, 16, 4), 4);
  EXPECT_EQ(threads_per_rank(0, 16, 3), 5);
  EXPECT_EQ(threads_per_rank(0, 2, 4), 1);
  EXPECT_EQ(threads_per_rank(3, 2, 4), 3);  // what is asked for is taken
}

TEST_F(SessionTest, LauncherIsReadFromTheEnvironment) {
  EXPECT_EQ(launched_as().size, 1);
  setenv("PMI_RANK", "1", 1);
  setenv("PMI_SIZE", "2", 1);
  EXPECT_EQ(launched_as().rank, 1);
  setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
  EXPECT_EQ(launched_as().rank, 3);
  EXPECT_EQ(launched_as().size, 4);
}

TEST_F(SessionTest, AloneWithoutALauncher) {
  Session session(SessionSettings{.threads = 1, .ranks = true});
  EXPECT_EQ(session.mpi(), nullptr);
  EXPECT_EQ(session.rank(), 0);
  EXPECT_EQ(session.world_size(), 1);
  EXPECT_EQ(session.threads(), 1);
  EXPECT_EQ(session.device().queue().threads(), 1);
  EXPECT_EQ(session.communicator().size(), 1);
  session.close();
}

TEST_F(SessionTest, TheDeviceSaysWhatItsNumberOfThreadsWasMadeFrom) {
  Session automatic(SessionSettings{.device = "cpu"}), asked(SessionSettings{.device = "cpu", .threads = 1});
  EXPECT_THAT(automatic.device_text(), testing::HasSubstr(" core"));
  EXPECT_EQ(asked.device_text(), asked.device().name());
}

TEST_F(SessionTest, ACommandOfOneProcessRefusesMpirun) {
  setenv("OMPI_COMM_WORLD_RANK", "0", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  EXPECT_THROW(Session(SessionSettings{}), core::Error);
}

TEST_F(SessionTest, DevicesThatAreNotThereAreRefused) {
  SessionSettings settings;
  settings.device = "cuda";
  if (core::cuda_refusal().empty())
    EXPECT_EQ(Session(settings).device().kind(), core::DeviceKind::cuda);
  else
    EXPECT_THROW(Session{settings}, core::Error);
  settings.device = "gpu";
  EXPECT_THROW(Session{settings}, core::Error);
}

}  // namespace
}  // namespace muonp::launch
