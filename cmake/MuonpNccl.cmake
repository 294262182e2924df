# NCCL as the target muonp_nccl, where it is found. After find_package(CUDAToolkit), beside which it may lie.
find_path(MUONP_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(MUONP_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
if(MUONP_NCCL_INCLUDE_DIR AND MUONP_NCCL_LIBRARY AND NOT TARGET muonp_nccl)
  add_library(muonp_nccl UNKNOWN IMPORTED GLOBAL)
  set_target_properties(muonp_nccl PROPERTIES IMPORTED_LOCATION ${MUONP_NCCL_LIBRARY}
                        INTERFACE_INCLUDE_DIRECTORIES ${MUONP_NCCL_INCLUDE_DIR})
endif()
