# Gives SOURCE the macros of launch/program/build_info.cpp: version, build type, commit, and the libraries built against.

# The numbers that header defines as NAME, joined by points; "unknown" if there are none.
function(muonp_header_version result header)
  set(version "")
  foreach(name ${ARGN})
    set(line "")
    if(EXISTS "${header}")
      file(STRINGS "${header}" line REGEX "^#define ${name} +[0-9]+" LIMIT_COUNT 1)
    endif()
    if(line MATCHES "${name} +([0-9]+)")
      list(APPEND version ${CMAKE_MATCH_1})
    endif()
  endforeach()
  list(JOIN version "." version)
  if(NOT version)
    set(version unknown)
  endif()
  set(${result} ${version} PARENT_SCOPE)
endfunction()

function(muonp_git_commit result)
  set(${result} unknown PARENT_SCOPE)
  find_package(Git QUIET)
  if(NOT GIT_FOUND OR NOT EXISTS ${PROJECT_SOURCE_DIR}/.git)
    return()
  endif()
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --short=12 HEAD WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
  if(status EQUAL 0)
    set(${result} ${commit} PARENT_SCOPE)
    if(EXISTS ${PROJECT_SOURCE_DIR}/.git/logs/HEAD)  # changes with every commit
      set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS .git/logs/HEAD)
    endif()
  endif()
endfunction()

function(muonp_add_build_info source)
  muonp_git_commit(commit)
  muonp_header_version(onednn ${muonp_onednn_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h
                       DNNL_VERSION_MAJOR DNNL_VERSION_MINOR DNNL_VERSION_PATCH)
  set(mpi "MPI ${MPI_CXX_VERSION}")
  foreach(folder ${MPI_CXX_INCLUDE_DIRS})
    muonp_header_version(open_mpi ${folder}/mpi.h OMPI_MAJOR_VERSION OMPI_MINOR_VERSION OMPI_RELEASE_VERSION)
    if(NOT open_mpi STREQUAL unknown)
      set(mpi "Open MPI ${open_mpi}")
    endif()
  endforeach()
  set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS
    MUONP_VERSION="${PROJECT_VERSION}" MUONP_BUILD_TYPE="${CMAKE_BUILD_TYPE}" MUONP_COMMIT="${commit}"
    MUONP_MARCH="${MUONP_ARCH}" MUONP_ONEDNN_VERSION="${onednn}" MUONP_MPI_VERSION="${mpi}")
endfunction()
