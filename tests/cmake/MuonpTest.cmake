# muonp_add_unit_tests(NAME SOURCES a_test.cpp ... LIBRARIES muonp::core ...): one program, one ctest entry per test,
# label "unit".
function(muonp_add_unit_tests name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBRARIES} GTest::gtest_main)
  target_include_directories(${name} SYSTEM PRIVATE ${MUONP_JSON_INCLUDE_DIR})
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS unit TIMEOUT ${ARG_TIMEOUT})
endfunction()
