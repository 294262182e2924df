#include "core/device/host_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace muonp::core {
namespace {

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

// The number that follows `key` in a file of lines that begin with a key; without a key the file is one number.
std::optional<std::int64_t> number_in(const std::string& path, const std::string& key = "") {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    std::istringstream rest(line.substr(key.size()));
    std::int64_t number = 0;
    if (rest >> number) return number;
  }
  return {};
}

// Of one control group: its limit less what is in use; the two versions call the files by different names.
std::int64_t free_in(const std::string& group) {
  struct Names {
    const char *limit, *use, *kind;
  };
  for (const auto& [limit, use, kind] :
       {Names{"/memory.max", "/memory.current", ""}, Names{"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_"}}) {
    const auto most = number_in(group + limit), used = number_in(group + use);
    if (!most || !used) continue;
    const auto files = [&](const std::string& list) {
      return number_in(group + "/memory.stat", std::string(kind) + list + " ").value_or(0);
    };
    return std::max<std::int64_t>(std::min(*most, kUnlimited / 2) - *used + files("active_file") + files("inactive_file"),
                                  0);
  }
  return kUnlimited;
}

// A limit of a group is one of all groups below it.
std::int64_t free_in_groups(const std::string& mount, std::string group) {
  std::int64_t least = kUnlimited;
  for (;;) {
    least = std::min(least, free_in(mount + group));
    if (group.empty()) return least;
    group.resize(std::min(group.rfind('/'), group.size() - 1));
  }
}

}  // namespace

std::int64_t free_host_memory(const std::string& root) {
  const auto available = number_in(root + "/proc/meminfo", "MemAvailable:");
  std::int64_t least = available ? *available * 1024 : kUnlimited;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "4:memory:/jobs/17", or "0::/jobs/17"
    const std::size_t controller = line.find(':') + 1, path = line.find(':', controller) + 1;
    const std::string name = line.substr(controller, path - 1 - controller);
    std::string group = line.substr(path);
    if (group == "/") group.clear();
    if (name.empty()) least = std::min(least, free_in_groups(root + "/sys/fs/cgroup", group));
    if (name == "memory") least = std::min(least, free_in_groups(root + "/sys/fs/cgroup/memory", group));
  }
  return least;
}

}  // namespace muonp::core
