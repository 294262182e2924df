# Every third-party library, found once. docs/dependencies.md says why each is here.
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(MPI REQUIRED COMPONENTS CXX)
find_package(fmt REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(Threads REQUIRED)

# NAME: imported target. HEADER, LIBRARY: what to look for. PACKAGE: the Debian package named in the error.
function(muonp_find_library name header library package)
  find_path(${name}_INCLUDE_DIR ${header} PATH_SUFFIXES openblas)
  find_library(${name}_LIBRARY ${library})
  if(NOT ${name}_INCLUDE_DIR OR NOT ${name}_LIBRARY)
    message(FATAL_ERROR "${header} and lib${library} were not found. On Debian: apt-get install ${package}")
  endif()
  add_library(${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${${name}_LIBRARY}
                        INTERFACE_INCLUDE_DIRECTORIES ${${name}_INCLUDE_DIR})
endfunction()

# oneDNN's own CMake config asks for OpenCL headers that a CPU build does not need.
muonp_find_library(muonp_onednn dnnl.h dnnl libdnnl-dev)
muonp_find_library(muonp_xxhash xxhash.h xxhash libxxhash-dev)
muonp_find_library(muonp_sentencepiece sentencepiece_processor.h sentencepiece libsentencepiece-dev)
muonp_find_library(muonp_sentencepiece_train sentencepiece_trainer.h sentencepiece_train libsentencepiece-dev)
muonp_find_library(muonp_pcre2 pcre2.h pcre2-8 libpcre2-dev)
muonp_find_library(muonp_utf8proc utf8proc.h utf8proc libutf8proc-dev)
find_path(MUONP_JSON_INCLUDE_DIR nlohmann/json.hpp REQUIRED)
find_path(MUONP_CLI11_INCLUDE_DIR CLI/CLI.hpp REQUIRED)
