#!/usr/bin/env bash
# Runs a program of ranks with 1, 2 and 4 ranks that share the first GPU of this machine; ends with 77, which ctest counts as
# skipped, where there is none.
set -euo pipefail
nvidia-smi -L >/dev/null 2>&1 || { echo "no GPU is visible here"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
for ranks in 1 2 4; do
  echo "$ranks ranks on one GPU."
  mpirun -np "$ranks" --oversubscribe --bind-to none "$1" "--ranks=$ranks"
done
