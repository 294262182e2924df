#include "core/base/processors.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace muonp::core {
namespace {

// A folder that stands for / : what /proc says of a process, and the hierarchies of control groups.
class Quota : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = root() + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::string root() const { return folder_.path(); }
  double quota() const { return processor_quota(root()); }

  static constexpr const char* kOther = "25 1 0:20 / / rw,relatime - ext4 /dev/sda1 rw\n";

 private:
  test::TemporaryFolder folder_;
};

TEST_F(Quota, WithoutControlGroupsThereIsNone) { EXPECT_EQ(quota(), 0); }

TEST_F(Quota, OfVersion2IsTheSmallestOnTheWayUp) {
  write("proc/self/mountinfo", std::string(kOther) + "30 25 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");
  write("proc/self/cgroup", "0::/system.slice/job 7/step\n");
  EXPECT_EQ(quota(), 0);  // folders without the file, as the root always is
  write("sys/fs/cgroup/system.slice/job 7/step/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 0);
  write("sys/fs/cgroup/system.slice/cpu.max", "400000 100000\n");
  EXPECT_EQ(quota(), 4);
  write("sys/fs/cgroup/system.slice/job 7/cpu.max", "75000 50000\n");
  EXPECT_EQ(quota(), 1.5);
  write("sys/fs/cgroup/system.slice/job 7/step/cpu.max", "800000 100000\n");
  EXPECT_EQ(quota(), 1.5);
  write("sys/fs/cgroup/other/cpu.max", "1000 100000\n");
  EXPECT_EQ(quota(), 1.5);
}

TEST_F(Quota, OfVersion1StandsInTheHierarchyOfTheCpuController) {
  write("proc/self/mountinfo",
        "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "31 25 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
  write("proc/self/cgroup", "4:cpuset:/set\n3:cpu,cpuacct:/a/b\n0::/a\n");
  write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 0);
  write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n");
  write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 0.5);
}

TEST_F(Quota, OfAContainerWhoseGroupIsMountedAsTheWholeHierarchy) {
  write("proc/self/mountinfo", "30 25 0:26 /docker/f00 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n");
  write("proc/self/cgroup", "3:cpu:/docker/f00\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 2.5);
  write("proc/self/cgroup", "3:cpu:/docker/f00/inner\n");
  write("sys/fs/cgroup/cpu/inner/cpu.cfs_quota_us", "100000\n");
  write("sys/fs/cgroup/cpu/inner/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 1);
  write("proc/self/cgroup", "3:cpu:/../elsewhere\n");  // outside of what the namespace shows
  EXPECT_EQ(quota(), 2.5);
}

TEST_F(Quota, ThatIsNoNumberIsNone) {
  write("proc/self/mountinfo", "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n30 25\n\n - \n");
  write("proc/self/cgroup", "0::/\n::\nnothing\n");
  for (const char* text : {"", "x y\n", "100000\n", "0 0\n", "-5 100000\n"}) {
    write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(quota(), 0) << text;
  }
}

TEST(Processors, ThreadsAreNoMoreThanTheQuotaKeepsBusyAndAtLeastOne) {
  EXPECT_EQ((Processors{8, 0}.usable()), 8);
  EXPECT_EQ((Processors{8, 0.5}.usable()), 1);
  EXPECT_EQ((Processors{8, 1}.usable()), 1);
  EXPECT_EQ((Processors{8, 1.5}.usable()), 2);
  EXPECT_EQ((Processors{2, 4}.usable()), 2);
  EXPECT_EQ((Processors{2, 4}.text()), "2 cores");
  EXPECT_EQ((Processors{1, 0}.text()), "1 core");
  EXPECT_EQ((Processors{8, 1.5}.text()), "1.5 of 8 cores by the control group's quota");
}

}  // namespace
}  // namespace muonp::core
