#include "launch/program/build_info.h"

#include <fmt/format.h>

namespace muonp::launch {

const BuildInfo& build_info() {  // the macros are defined for this file by launch/CMakeLists.txt
  static constexpr BuildInfo kInfo = {MUONP_VERSION, MUONP_BUILD_TYPE,     MUONP_COMMIT,
                                      MUONP_MARCH,   MUONP_ONEDNN_VERSION, MUONP_MPI_VERSION};
  return kInfo;
}

std::string describe_build() {
  const BuildInfo& info = build_info();
  return fmt::format("muonp {} ({}, commit {}, {}, oneDNN {}, {})", info.version, info.build_type, info.commit,
                     info.architecture, info.onednn, info.mpi);
}

}  // namespace muonp::launch
