// What this binary was built from.
#pragma once

#include <string>
#include <string_view>

namespace muonp::launch {

struct BuildInfo {
  std::string_view version;       // "0.1.0"
  std::string_view build_type;    // "Release"
  std::string_view commit;        // short hash at configure time, "unknown" outside a repository
  std::string_view architecture;  // value of -march
  std::string_view onednn;        // "2.6.0"
  std::string_view mpi;           // "Open MPI 4.1.4"
};
const BuildInfo& build_info();

// One line, as `muonp --version` prints it.
std::string describe_build();

}  // namespace muonp::launch
