# The CUDA back end. MUONP_CUDA chooses it:
#   AUTO  built where nvcc, cuBLAS and NVTX are found, otherwise left out, and the program says so
#   ON    required          OFF  left out
#   HOST  compiled by the host compiler against tests/cuda_host, which stands in for the runtime, cuBLAS and NCCL: for
#         tests, never shipped
set(MUONP_CUDA AUTO CACHE STRING "CUDA back end: AUTO, ON, OFF, or HOST (tests without a GPU)")
set_property(CACHE MUONP_CUDA PROPERTY STRINGS AUTO ON OFF HOST)

# Sets MUONP_CUDA_MISSING to what is not there.
macro(muonp_look_for_cuda)
  set(MUONP_CUDA_MISSING "")
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    list(APPEND MUONP_CUDA_MISSING "nvcc")
  endif()
  find_package(CUDAToolkit QUIET)
  if(NOT TARGET CUDA::cublas)
    list(APPEND MUONP_CUDA_MISSING "cuBLAS")
  endif()
  find_path(MUONP_NVTX_INCLUDE_DIR nvtx3/nvToolsExt.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  if(NOT MUONP_NVTX_INCLUDE_DIR)
    list(APPEND MUONP_CUDA_MISSING "NVTX")
  endif()
  list(JOIN MUONP_CUDA_MISSING ", " MUONP_CUDA_MISSING)
endmacro()

set(MUONP_CUDA_BUILT OFF)
if(MUONP_CUDA STREQUAL "HOST")
  set(MUONP_CUDA_BUILT HOST)
elseif(MUONP_CUDA STREQUAL "AUTO" OR MUONP_CUDA STREQUAL "ON")
  muonp_look_for_cuda()
  if(NOT MUONP_CUDA_MISSING)
    set(MUONP_CUDA_BUILT ON)
  elseif(MUONP_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MUONP_CUDA=ON, but not found: ${MUONP_CUDA_MISSING}")
  else()
    message(STATUS "CUDA back end left out; not found: ${MUONP_CUDA_MISSING}")
  endif()
elseif(NOT MUONP_CUDA STREQUAL "OFF")
  message(FATAL_ERROR "MUONP_CUDA=${MUONP_CUDA}; valid are AUTO, ON, OFF and HOST")
endif()

if(MUONP_CUDA_BUILT STREQUAL "ON")
  include(${PROJECT_SOURCE_DIR}/cmake/MuonpCudnn.cmake)
  include(${PROJECT_SOURCE_DIR}/cmake/MuonpNccl.cmake)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90)
  endif()
  enable_language(CUDA)
  # CMake 3.25 does not know CUDA C++20. std::bit_cast is a constexpr function that kernels call. fmt 9 takes nvcc for a
  # compiler without constexpr, and half of it then is not.
  string(APPEND CMAKE_CUDA_FLAGS " -std=c++20 --expt-relaxed-constexpr -DFMT_USE_CONSTEXPR=1")
  # A kernel that spills registers or needs local memory is a warning, and so an error.
  string(APPEND CMAKE_CUDA_FLAGS " -Xptxas=-warn-spills,-warn-lmem-usage")
  if(MUONP_WARNINGS_AS_ERRORS)
    string(APPEND CMAKE_CUDA_FLAGS " -Werror all-warnings")
  endif()
endif()

# Sources that hold kernels.
function(muonp_device_code)
  if(NOT MUONP_CUDA_BUILT)
    return()
  endif()
  set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_DEFINITIONS MUONP_DEVICE_CODE)
  if(MUONP_CUDA_BUILT STREQUAL "ON")
    set_property(SOURCE ${ARGN} PROPERTY LANGUAGE CUDA)
  else()  # nvcc reorders no sums, and two kernels that add the same numbers in one order get the same bits
    set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS -fno-associative-math)
  endif()
endfunction()

# What a target that includes core/device/cuda needs.
function(muonp_use_cuda target)
  if(NOT MUONP_CUDA_BUILT)
    return()
  endif()
  if(MUONP_CUDA_BUILT STREQUAL "ON")
    target_link_libraries(${target} PUBLIC CUDA::cudart CUDA::cublas CUDA::cublasLt)
  else()
    target_link_libraries(${target} PUBLIC muonp_cuda_host)
  endif()
endfunction()
