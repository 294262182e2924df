# OpenBLAS is loaded when LAPACK is first called (core/device/lapack.cpp), and not linked: by the path it is found at here, or by
# its name alone where the program runs on another machine.
muonp_find_library(muonp_openblas cblas.h openblas libopenblas-openmp-dev)
execute_process(COMMAND ${CMAKE_READELF} -d ${muonp_openblas_LIBRARY} OUTPUT_VARIABLE dynamic ERROR_QUIET)
if(NOT dynamic MATCHES "SONAME[^[]*\\[([^]]+)\\]")
  message(FATAL_ERROR "${muonp_openblas_LIBRARY} is no shared library. On Debian: apt-get install libopenblas-openmp-dev")
endif()
set(MUONP_OPENBLAS_NAME ${CMAKE_MATCH_1})
get_filename_component(MUONP_OPENBLAS_FOLDER ${muonp_openblas_LIBRARY} DIRECTORY)
