#!/usr/bin/env bash
# Installs what is needed, builds, and passes all tests.
#
#   ./tests/run.sh                 everything but the sanitizer builds
#   ./tests/run.sh --sanitizers    the tests again under ASan + UBSan, and the thread communicator under TSan
#   ./tests/run.sh -L unit         further arguments go to ctest: here only the tests labelled "unit"
#
# Labels: unit, unit-threads (ranks as threads of one process), ranks (processes under mpirun), e2e (the program as a
# user runs it).
set -euo pipefail
cd "$(dirname "$0")/.."

sanitizers=false
if [ "${1:-}" = --sanitizers ]; then sanitizers=true; shift; fi
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0; fi

./launch/install_dependencies.sh bible-kjv

export OMP_WAIT_POLICY=passive  # several tests share the cores: a team that waits must not hold them
mkdir -p build
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

# build_and_test PRESET CTEST_ARGUMENT...
build_and_test() {
  local preset=$1; shift
  echo "== $preset: configure and build"
  cmake --preset "$preset" -DMUONP_BUILD_TESTS=ON "${launcher[@]}" >"build/$preset.log" 2>&1 || { cat "build/$preset.log"; return 1; }
  cmake --build --preset "$preset" --parallel "$(nproc)" >>"build/$preset.log" 2>&1 || { tail -n 60 "build/$preset.log"; return 1; }
  echo "== $preset: tests"
  ctest --test-dir "build/$preset" --parallel "$(nproc)" --output-on-failure --no-tests=error "$@"
}

if $sanitizers; then
  build_and_test asan -L unit "$@"
  OMP_NUM_THREADS=1 build_and_test tsan -L unit-threads "$@"
else
  build_and_test release "$@"
fi
