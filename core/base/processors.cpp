#include "core/base/processors.h"

#include <fmt/format.h>
#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <vector>

namespace muonp::core {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A mounted hierarchy of control groups: what of it is mounted, and where.
struct Hierarchy {
  bool version_2 = false;
  std::string from, at;
};

// A line of /proc/self/mountinfo is "id parent device FROM AT options [tags] - TYPE source OPTIONS".
std::vector<Hierarchy> hierarchies(const std::string& root) {
  std::vector<Hierarchy> found;
  std::ifstream lines(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(lines, line);) {
    const std::vector<std::string> words = split(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 5 || words.end() - dash < 4) continue;
    const bool version_2 = dash[1] == "cgroup2";
    if (version_2 || (dash[1] == "cgroup" && has(split(dash[3], ','), "cpu")))
      found.push_back({version_2, words[3], root + words[4]});
  }
  return found;
}

// This process's group in the hierarchy, from /proc/self/cgroup: lines "0::PATH" of version 2 and "N:cpu,cpuacct:PATH".
std::string group_in(const Hierarchy& hierarchy, const std::string& root) {
  std::ifstream lines(root + "/proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (hierarchy.version_2 ? controllers.empty() : has(split(controllers, ','), "cpu")) return line.substr(second + 1);
  }
  return "";
}

// The group's folder below the mount: a container's group is often mounted as if it were the whole hierarchy.
std::string folder_below(const std::string& from, const std::string& group) {
  if (from == "/") return group == "/" || group.starts_with("/..") ? "" : group;
  return group.starts_with(from + "/") ? group.substr(from.size()) : "";
}

// In cores' worth, of one folder; infinite without a limit. A kernel's "max" and -1 are none.
double quota_of(const std::string& folder, bool version_2) {
  double quota = -1, period = 0;
  if (version_2) {
    std::ifstream(folder + "/cpu.max") >> quota >> period;
  } else {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? quota / period : INFINITY;
}

}  // namespace

double processor_quota(const std::string& root) {
  double least = INFINITY;
  for (const Hierarchy& h : hierarchies(root)) {
    std::string below = folder_below(h.from, group_in(h, root));
    for (;; below.resize(below.rfind('/'))) {
      least = std::min(least, quota_of(h.at + below, h.version_2));
      if (below.empty()) break;
    }
  }
  return std::isfinite(least) ? least : 0;
}

Processors processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : omp_get_num_procs();
  return {std::max(1, cores), processor_quota()};
}

int Processors::usable() const {
  return quota > 0 && quota < cores ? std::max(1, static_cast<int>(std::ceil(quota))) : cores;
}

std::string Processors::text() const {
  const std::string of_mask = fmt::format("{} core{}", cores, cores == 1 ? "" : "s");
  return quota > 0 && quota < cores ? fmt::format("{:.3g} of {} by the control group's quota", quota, of_mask) : of_mask;
}

}  // namespace muonp::core
