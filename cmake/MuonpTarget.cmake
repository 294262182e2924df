# Compile options shared by every target of the project.
add_library(muonp_options INTERFACE)
target_compile_features(muonp_options INTERFACE cxx_std_20)
target_compile_options(muonp_options INTERFACE
  $<BUILD_INTERFACE:-march=${MUONP_ARCH} -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion>
  $<$<AND:$<BOOL:${MUONP_WARNINGS_AS_ERRORS}>,$<CONFIG:Release,Debug,RelWithDebInfo>>:$<BUILD_INTERFACE:-Werror>>
  # Products round once (fma), sums may be reordered by the vectoriser; NaN and infinity keep their meaning.
  $<BUILD_INTERFACE:-fno-math-errno -fno-trapping-math -ffp-contract=fast -fno-signed-zeros -fassociative-math>)
if(MUONP_SANITIZE)
  target_compile_options(muonp_options INTERFACE $<BUILD_INTERFACE:-fsanitize=${MUONP_SANITIZE} -fno-omit-frame-pointer -g1>)
  target_link_options(muonp_options INTERFACE $<BUILD_INTERFACE:-fsanitize=${MUONP_SANITIZE}>)
endif()

# muonp_add_library(core SOURCES a.cpp ... PUBLIC dep ... PRIVATE dep ...): one library per folder, muonp::<folder>.
function(muonp_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(muonp_${name} STATIC ${ARG_SOURCES})
  add_library(muonp::${name} ALIAS muonp_${name})
  set_target_properties(muonp_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(muonp_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include/muonp>)
  target_link_libraries(muonp_${name} PUBLIC muonp_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
endfunction()
