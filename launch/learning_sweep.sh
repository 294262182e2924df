#!/usr/bin/env bash
# Validation losses of AdamW, Muon (p = 0) and Muon^p (p = 1/4, 1/2, 3/4) after equal steps of configs/quickstart.yaml,
# each at four or five learning rates of its matrices: the table of docs/learning.md. Two runs at a time, one thread each.
#
#   launch/learning_sweep.sh [STEPS]        100 steps unless said otherwise: about 12 minutes on two cores
#
# Runs that are complete are not run again. Needs build/release (cmake --build --preset release).
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
steps=${1:-100}
muonp=${MUONP:-build/release/launch/muonp}
text=runs/data/kjv.txt model=runs/data/kjv-1024.model
./launch/fetch_kjv.sh "$text"
[ -s "$model" ] || "$muonp" tokenize --in "$text" --vocab 1024 --out "$model"

# The larger p, the smaller the best rate: each grid has its best inside.
jobs=()
add() {  # add NAME SETTING LR...
  local name=$1 setting=$2 lr; shift 2
  for lr in "$@"; do jobs+=("$name-lr-$lr $setting optimizer.matrices.lr=$lr"); done
}
add p-0 optimizer.matrices.p=0 0.0025 0.005 0.01 0.02
add p-1-4 optimizer.matrices.p=1/4 0.00125 0.0025 0.005 0.01
add p-1-2 optimizer.matrices.p=1/2 0.0003125 0.000625 0.00125 0.0025 0.005
add p-3-4 optimizer.matrices.p=3/4 0.00015625 0.0003125 0.000625 0.00125 0.0025
add adamw optimizer.matrices.rule=adamw 0.00003125 0.0000625 0.000125 0.00025 0.0005 0.001 0.002

export muonp steps
run_one() {
  read -r name settings <<<"$1"
  arguments=(train configs/quickstart.yaml --set "run.dir=runs/learning-$steps" --set "run.name=$name"
    --set "run.steps=$steps" --set parallel.threads=1 --set log.peak=false --set log.every=1000
    --set data.cache=runs/data/cache --set log.validate_every=50)
  for setting in $settings; do arguments+=(--set "$setting"); done
  OMP_NUM_THREADS=1 "$muonp" "${arguments[@]}" >"runs/learning-$steps-$name.log" 2>&1 || { cat "runs/learning-$steps-$name.log"; exit 1; }
  rm "runs/learning-$steps-$name.log"
  echo "done: $name"
}
export -f run_one
# The first alone: it writes the token file that the others share.
run_one "${jobs[0]}"
printf '%s\n' "${jobs[@]:1}" | xargs -d '\n' -P 2 -I{} bash -c 'run_one "$1"' _ {}
"$muonp" compare "runs/learning-$steps"/*/ --svg "runs/learning-$steps.svg"
