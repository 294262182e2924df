# MUONP_CUDNN_INCLUDE_DIR, where cuDNN's headers are. The library itself is looked for when the program runs
# (core/device/cuda/cudnn.h). After find_package(CUDAToolkit), beside which it may lie.
find_path(MUONP_CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT MUONP_CUDNN_INCLUDE_DIR)
  message(STATUS "Attention on GPUs is without cuDNN: cudnn_graph.h was not found "
                 "(-DMUONP_CUDNN_INCLUDE_DIR=..., from NVIDIA's cuDNN 9 or PyPI's nvidia-cudnn-cu13)")
endif()
