#!/usr/bin/env bash
# Installs what is needed, builds, and passes all tests.
#
#   ./tests/run.sh                 everything but what follows
#   ./tests/run.sh --cuda          the CUDA back end without a GPU: its sources run on a stand-in for GPUs (docs/gpu.md),
#                                  and where nvcc is installed the program for real ones is built and started
#   ./tests/run.sh --sanitizers    the unit tests again under ASan + UBSan, and those with several threads under TSan
#   ./tests/run.sh --gpu           on this machine's GPUs: the unit tests, every operation beside the CPU's, NCCL between all
#                                  GPUs, the program, memory checks where compute-sanitizer is; then a table of rates
#   ./tests/run.sh -L unit         further arguments go to ctest: here only the tests labelled "unit"
#
# Labels: unit, unit-threads (ranks as threads of one process), ranks (processes under mpirun), e2e (the program as a
# user runs it), gpu.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=default
case "${1:-}" in
  --cuda | --sanitizers | --gpu) suites=${1#--}; shift ;;
  --help | -h) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

./launch/install_dependencies.sh bible-kjv chromium fonts-liberation

export OMP_WAIT_POLICY=passive  # several tests share the cores: a team that waits must not hold them
mkdir -p build
launcher=()
command -v ccache >/dev/null &&
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)

# build_and_test PRESET TARGET CTEST_ARGUMENT...
build_and_test() {
  local preset=$1 target=$2; shift 2
  echo "== $preset: configure and build"
  cmake --preset "$preset" -DMUONP_BUILD_TESTS=ON "${launcher[@]}" >"build/$preset.log" 2>&1 ||
    { cat "build/$preset.log"; return 1; }
  cmake --build --preset "$preset" --target "$target" --parallel "$(nproc)" >>"build/$preset.log" 2>&1 ||
    { tail -n 60 "build/$preset.log"; return 1; }
  echo "== $preset: tests"
  ctest --test-dir "build/$preset" --parallel "$(nproc)" --output-on-failure --no-tests=error "$@"
}

# The program as nvcc builds it: no warning, no spilled register (both are errors of the build), and on a machine without
# a GPU it starts, says so and computes on the CPU.
check_cuda_program() {
  echo "== cuda: configure and build"
  cmake --preset cuda -DMUONP_CUDA=AUTO -DMUONP_BUILD_TESTS=ON "${launcher[@]}" >build/cuda.log 2>&1 ||
    { cat build/cuda.log; return 1; }
  if grep "CUDA back end left out" build/cuda.log; then
    echo "The program for GPUs is not built here."
    return 0
  fi
  cmake --build --preset cuda --target muonp --parallel "$(nproc)" >>build/cuda.log 2>&1 ||
    { tail -n 60 build/cuda.log; return 1; }
  nvidia-smi -L >/dev/null 2>&1 || ./tests/e2e/no_gpu.sh build/cuda/launch/muonp
  echo "== cuda: accesses of 16 bytes"
  or_missing ./tests/gpu/sass_test.sh build/cuda/launch/muonp
}

# A check that ends with 77 has said what it lacks, and fails nothing.
or_missing() { "$@" || [ $? -eq 77 ]; }

# The spectral power's time and error on this GPU in each storage, beside what cuBLAS's plain product reaches there.
print_gpu_rates() {
  nvidia-smi -L >/dev/null 2>&1 || { echo "No GPU is visible here: no rates were measured."; return 0; }
  local n
  for n in 1024 4096 8192; do
    build/cuda/launch/muonp bench spectral --device cuda --rows "$n" --cols "$n" --repeats 10 \
      --method coupled_minimax@0,coupled_minimax@1/3,coupled_minimax@1/2 --dtype float32,tf32,float16,bfloat16
  done
}

case $suites in
  default) build_and_test release all "$@" ;;
  cuda)
    build_and_test cuda-host device_tests -L 'unit|unit-threads|gpu' "$@"
    echo "== cuda-host: tests/gpu/first_contact.sh without a GPU"
    or_missing ./tests/gpu/first_contact_test.sh build/cuda-host 150
    check_cuda_program
    ;;
  sanitizers)
    build_and_test asan unit_tests -L '^unit$' "$@"
    OMP_NUM_THREADS=1 build_and_test tsan thread_tests -L unit-threads "$@"
    ;;
  gpu)
    nvidia-smi -L 2>/dev/null || echo "No GPU is visible here: the tests below are skipped."
    build_and_test cuda all -L gpu "$@"
    print_gpu_rates
    ;;
esac
