#!/usr/bin/env bash
# Runs a program of ranks with one rank on each GPU of this machine; ends with 77, which ctest counts as skipped, where
# there is none.
set -euo pipefail
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') || { echo "no GPU is visible here"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
echo "One rank on each of $gpus GPUs."
mpirun -np "$gpus" --oversubscribe --bind-to none "$1" "--ranks=$gpus"
