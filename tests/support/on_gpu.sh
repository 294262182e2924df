#!/usr/bin/env bash
# Runs a test program on the GPU of this machine; ends with 77, which ctest counts as skipped, where there is none.
set -euo pipefail
nvidia-smi -L >/dev/null 2>&1 || { echo "no GPU is visible here"; exit 77; }
export MUONP_TEST_DEVICE=cuda
"$@"
if command -v compute-sanitizer >/dev/null; then
  MUONP_NO_MEMORY_CACHE=1 compute-sanitizer --error-exitcode 1 "$@" --gtest_filter='-Allocator.ReusesFreedBlocksAndAligns'
else
  echo "compute-sanitizer is not installed: memory checks were not made"
fi
