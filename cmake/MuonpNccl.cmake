# MUONP_NCCL_INCLUDE_DIR, where nccl.h is. The library itself is looked for when ranks with GPUs meet (dist/nccl/library.h).
# After find_package(CUDAToolkit), beside which it may lie.
find_path(MUONP_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT MUONP_NCCL_INCLUDE_DIR)
  message(STATUS "Ranks with GPUs have MPI alone to talk through (parallel.transport: mpi): nccl.h was not found "
                 "(-DMUONP_NCCL_INCLUDE_DIR=..., from NVIDIA's NCCL 2 or PyPI's nvidia-nccl-cu13)")
endif()
