# Every test is registered by one of these functions; labels are unit, unit-threads, ranks.

# Everything that tests with a label need, for builds that run these only (tests/run.sh --sanitizers).
add_custom_target(unit_tests)
add_custom_target(thread_tests)

# muonp_set_environment(LIST A=1 B=2 ...): of the tests that gtest_discover_tests() puts into LIST; what it takes itself
# can be no list.
function(muonp_set_environment list)
  set(file ${CMAKE_CURRENT_BINARY_DIR}/${list}_environment.cmake)
  file(WRITE ${file} "if(${list})\n"
                     "  set_tests_properties(\${${list}} PROPERTIES ENVIRONMENT \"${ARGN}\")\n"
                     "endif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${file})
endfunction()

# muonp_add_gpu_test(NAME SCRIPT PROGRAM): PROGRAM on this machine's GPUs by a script of tests/support; skipped, and counted
# so, where there is none.
function(muonp_add_gpu_test name script program)
  add_test(NAME ${name} COMMAND ${PROJECT_SOURCE_DIR}/tests/support/${script} ${program})
  set_tests_properties(${name} PROPERTIES LABELS gpu TIMEOUT 1800 RUN_SERIAL ON SKIP_RETURN_CODE 77)
endfunction()

# Sources with std::regex, their own or gmock's. With a sanitizer g++ 12 suspects that library of reading what was not set.
function(muonp_uses_regex)
  if(MUONP_SANITIZE)
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS -Wno-maybe-uninitialized)
  endif()
endfunction()

# muonp_add_unit_tests(NAME SOURCES a_test.cpp ... LIBRARIES muonp::core ... [TIMEOUT s] [LABEL unit-threads]): one
# program, one ctest entry per test, label "unit". Built with the stand-in for CUDA, they run on its GPUs
# (tests/support/test_device.h, device_ranks.h), where OpenMP threads work in short bursts, and would otherwise spin
# between them.
function(muonp_add_unit_tests name)
  cmake_parse_arguments(ARG "" "TIMEOUT;LABEL" "SOURCES;LIBRARIES" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBRARIES} GTest::gmock GTest::gtest_main)
  target_include_directories(${name} SYSTEM PRIVATE ${MUONP_JSON_INCLUDE_DIR})
  if(ARG_LABEL STREQUAL "unit-threads")
    add_dependencies(thread_tests ${name})
  else()
    add_dependencies(unit_tests ${name})
  endif()
  if(MUONP_CUDA_BUILT STREQUAL "ON" AND ARG_LABEL STREQUAL "unit")
    muonp_add_gpu_test(${name}.gpu on_gpu.sh $<TARGET_FILE:${name}>)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
  if(MUONP_CUDA_BUILT STREQUAL "HOST")
    muonp_set_environment(${name}_TESTS MUONP_TEST_DEVICE=cuda CUDA_HOST_DEVICES=8 OMP_WAIT_POLICY=passive)
  endif()
endfunction()

# How tests start ranks. More ranks than cores is the normal case here: nothing is bound and waiting ranks yield.
function(muonp_rank_command result ranks)
  set(${result} ${MPIEXEC_EXECUTABLE} -np ${ranks} --oversubscribe --bind-to none --mca mpi_yield_when_idle 1
      --mca rtc_hwloc_vmhole none PARENT_SCOPE)  # see launch/mpirun.sh
endfunction()

# PROCESSORS: what ctest counts a test as, so that it does not start too many at once. Leaks are looked for in the
# tests with ranks as threads: Open MPI's plugins leak, and are unloaded before their names could be suppressed.
function(muonp_set_rank_properties test timeout)
  set(environment OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 CUDA_HOST_DEVICES=4)
  if(MUONP_SANITIZE MATCHES "address")
    list(APPEND environment ASAN_OPTIONS=detect_leaks=0)
  endif()
  set_tests_properties(${test} PROPERTIES ENVIRONMENT "${environment}" TIMEOUT ${timeout} PROCESSORS 2 LABELS ranks)
endfunction()

# muonp_add_rank_tests(NAME NP 1 2 3 4 SOURCES ... LIBRARIES ... [TIMEOUT s]): one program with the main of
# tests/support, one ctest entry NAME.npN per number of ranks, label "ranks".
function(muonp_add_rank_tests name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "NP;SOURCES;LIBRARIES" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  muonp_add_rank_program(${name} SOURCES ${PROJECT_SOURCE_DIR}/tests/support/rank_main.cpp ${ARG_SOURCES}
                         LIBRARIES ${ARG_LIBRARIES})
  foreach(ranks IN LISTS ARG_NP)
    muonp_rank_command(command ${ranks})
    add_test(NAME ${name}.np${ranks} COMMAND ${command} $<TARGET_FILE:${name}> --ranks=${ranks})
    muonp_set_rank_properties(${name}.np${ranks} ${ARG_TIMEOUT})
  endforeach()
endfunction()

# A program for mpirun, without ctest entries of its own.
function(muonp_add_rank_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBRARIES} muonp::dist GTest::gmock GTest::gtest)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
endfunction()

# muonp_add_failing_rank_test(NAME NP n PROGRAM target ARGUMENTS ... MATCH regex [ONCE text] [SECONDS 30]): the program
# must end by itself, with a status other than 0 and the right words (ExpectFailure.cmake).
function(muonp_add_failing_rank_test name)
  cmake_parse_arguments(ARG "" "NP;PROGRAM;MATCH;ONCE;SECONDS" "ARGUMENTS" ${ARGN})
  if(NOT ARG_SECONDS)
    set(ARG_SECONDS 30)
  endif()
  muonp_rank_command(command ${ARG_NP})
  list(APPEND command $<TARGET_FILE:${ARG_PROGRAM}> ${ARG_ARGUMENTS})
  list(JOIN command "|" command)
  math(EXPR timeout "${ARG_SECONDS} + 15")
  add_test(NAME ${name} COMMAND ${CMAKE_COMMAND} -DCOMMAND=${command} -DMATCH=${ARG_MATCH} -DONCE=${ARG_ONCE}
           -DSECONDS=${ARG_SECONDS} -P ${PROJECT_SOURCE_DIR}/tests/cmake/ExpectFailure.cmake)
  muonp_set_rank_properties(${name} ${timeout})
endfunction()
