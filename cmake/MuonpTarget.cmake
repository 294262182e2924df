# Compile options shared by every target of the project.
add_library(muonp_options INTERFACE)
# As a flag: CMake 3.25 would ask for the same standard of CUDA, where it does not know C++20.
target_compile_features(muonp_options INTERFACE $<INSTALL_INTERFACE:cxx_std_20>)
target_compile_options(muonp_options INTERFACE
  $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-std=c++20>>
  $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-march=${MUONP_ARCH};-Wall;-Wextra;-Wshadow;-Wconversion;-Wno-sign-conversion>>
  $<BUILD_INTERFACE:$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${MUONP_WARNINGS_AS_ERRORS}>,$<CONFIG:Release,Debug,RelWithDebInfo>>:-Werror>>
  # Products round once (fma), sums may be reordered by the vectoriser; NaN and infinity keep their meaning.
  $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-fno-math-errno;-fno-trapping-math;-ffp-contract=fast;-fno-signed-zeros;-fassociative-math>>
  # The host's half of a CUDA source; its generated code has shadowing of its own.
  $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-march=${MUONP_ARCH},-Wall,-Wextra,-fopenmp,-fno-math-errno,-fno-trapping-math,-ffp-contract=fast,-fno-signed-zeros,-fassociative-math>>)
if(MUONP_SANITIZE)  # without recovery: undefined behaviour would otherwise be printed by a test that passes
  target_compile_options(muonp_options INTERFACE
    $<BUILD_INTERFACE:-fsanitize=${MUONP_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g1>)
  target_link_options(muonp_options INTERFACE $<BUILD_INTERFACE:-fsanitize=${MUONP_SANITIZE}>)
endif()

# muonp_add_library(core/base SOURCES a.cpp ... [DEVICE_SOURCES kernels.cpp ...] PUBLIC dep ... PRIVATE dep ...): one library per
# floor, muonp::core_base, whose sources lie in core/base. PUBLIC are the floors that it stands on.
function(muonp_add_library floor)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEVICE_SOURCES;PUBLIC;PRIVATE" ${ARGN})
  string(REPLACE "/" "_" name ${floor})
  string(REGEX REPLACE "/.*" "" folder ${floor})
  if(ARG_DEVICE_SOURCES)
    muonp_device_code(${ARG_DEVICE_SOURCES})
  endif()
  add_library(muonp_${name} STATIC ${ARG_SOURCES} ${ARG_DEVICE_SOURCES})
  add_library(muonp::${name} ALIAS muonp_${name})
  set_target_properties(muonp_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(muonp_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include/muonp>)
  target_link_libraries(muonp_${name} PUBLIC muonp_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  set_property(GLOBAL APPEND PROPERTY MUONP_LIBRARIES_OF_${folder} muonp_${name})
endfunction()

# muonp_add_folder(core): muonp::core, all floors of the folder.
function(muonp_add_folder folder)
  get_property(floors GLOBAL PROPERTY MUONP_LIBRARIES_OF_${folder})
  add_library(muonp_${folder} INTERFACE)
  add_library(muonp::${folder} ALIAS muonp_${folder})
  set_target_properties(muonp_${folder} PROPERTIES EXPORT_NAME ${folder})
  target_link_libraries(muonp_${folder} INTERFACE ${floors})
  set_property(GLOBAL APPEND PROPERTY MUONP_LIBRARIES_OF_${folder} muonp_${folder})
endfunction()
