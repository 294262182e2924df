#!/usr/bin/env bash
# Validation loss against bytes sent per rank for each compressor of error feedback, on 4 ranks of this host: the table and
# the figure of docs/compression.md. configs/compression-10m.yaml, a GPT of 10 M parameters.
#
#   launch/compression_sweep.sh [STEPS]        120 steps unless said otherwise: about 4 minutes a run on two idle cores
#
# Runs that are complete are not run again. Needs build/release (cmake --build --preset release).
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
steps=${1:-120}
muonp=${MUONP:-build/release/launch/muonp}
text=runs/data/kjv.txt model=runs/data/kjv-1024.model
./launch/fetch_kjv.sh "$text"
[ -s "$model" ] || "$muonp" tokenize --in "$text" --vocab 1024 --out "$model"

folder=runs/compression-$steps
mkdir -p "$folder"
run() {  # run NAME TO_OWNER TO_WORKERS OTHERS
  local last
  last=$(tail -n 1 "$folder/$1/metrics.jsonl" 2>/dev/null || true)
  case $last in *"\"step\":$steps,"*val_loss*) echo "$1: complete"; return ;; esac
  echo "$1"
  OMP_NUM_THREADS=1 ./launch/mpirun.sh -np 4 "$muonp" train configs/compression-10m.yaml --set "run.dir=$folder" \
    --set "run.name=$1" --set "run.steps=$steps" --set parallel.threads=1 --set log.peak=false \
    --set data.cache=runs/data/cache --set parallel.timeout_seconds=600 --set checkpoint.at_end=false \
    --set "compression.to_owner=$2" --set "compression.to_workers=$3" --set "compression.others=$4" \
    >"$folder/$1.log" 2>&1 || { cat "$folder/$1.log"; exit 1; }
}
run none none none none
run identity identity identity none
run int8 int8 int8 int8
run int5 int5 int5 int8
run int4 int4 int4 int8
run top_k_natural-0.2-int8 'top_k_natural 0.2' int8 int8
run top_k_natural-0.1-int8 'top_k_natural 0.1' int8 int8
run top_k_natural-0.1-natural 'top_k_natural 0.1' natural int8
run natural natural natural int8
run top_k-0.06-int8 'top_k 0.06' int8 int8
run top_k_natural-0.1 'top_k_natural 0.1' 'top_k_natural 0.1' int8
run rank-16-int8 'rank 16' int8 int8
run sign sign sign int8
"$muonp" compare "$folder"/*/ --x sent --svg "$folder.svg" --title 'Loss against bytes sent, 4 ranks, GPT of 10 M parameters'
