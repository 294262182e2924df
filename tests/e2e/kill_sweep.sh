#!/usr/bin/env bash
# Kills training runs with SIGKILL at seeded random moments, some of them while a checkpoint is being written, and goes
# on from what they left: `muonp checkpoint verify` must find nothing damaged, the run must resume from its newest
# checkpoint, and its losses must be those of a run that nobody killed, digit by digit.
#
#   kill_sweep.sh MUONP MPIRUN [KILLS [OF_THEM_WHILE_SAVING [SEED]]]       (default 50 20 1)
#
# A kill counts as one while saving if a step-*.partial folder is there when all processes are gone.
set -u
muonp=$(realpath "$1")
mpirun=$(realpath "$2")
kills=${3:-50}
saving=${4:-20}
RANDOM=${5:-1}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMP_NUM_THREADS=1

steps=300
for ((i = 0; i < 4000; ++i)); do
  words=(sun moon river stone light water and of)
  printf '%s ' "${words[RANDOM % 8]}"
done >text.txt
cat >tiny.yaml <<END
run: {steps: $steps, seed: 5, dir: $folder/runs}
data: {train: text.txt, sequence: 32, batch: 8}
model: {layers: 2, heads: 2, width: 64, context: 32, dropout: 0.1}
optimizer: {matrices: {p: 1/2, lr: 3e-3, dtype: float32}, others: {lr: 3e-3}}
parallel: {threads: 1}
checkpoint: {every: 10, keep: 3}
log: {every: 100, hash_every: 50, peak: false}
END

fail() {
  echo "FAILED: kill $killed ($run): $*"
  tail -n 30 "$folder/out" | sed 's/^/  | /'
  exit 1
}

# The losses that a run has written so far, one line a step.
curve() { grep -o '^{"step":[0-9]*,"loss":[^,]*' "runs/$1/metrics.jsonl" 2>/dev/null; }

partials() { compgen -G "runs/$run/checkpoints/*.partial" >/dev/null; }

newest_checkpoint() {
  local path
  path=$(ls -d "runs/$run"/checkpoints/step-???????? 2>/dev/null | tail -n 1)
  [ -n "$path" ] && echo $((10#${path##*step-}))
}

# start NAME: in the background as a job of its own, whose processes carry the folder's name.
start() {
  "$mpirun" -np 2 "$muonp" train "$folder/tiny.yaml" --set "run.name=$1" >out 2>&1 &
  job=$!
}

ranks() {
  pgrep -f "[m]uonp train $folder/" | while read -r p; do
    [ "$(cat "/proc/$p/comm" 2>/dev/null)" = muonp ] && echo "$p"
  done
}

# Kills the job at a moment up to a second and a half after its start; for $1 = saving, as soon as a .partial folder
# shows up after that, or a few milliseconds later. All processes at once, or one rank, which ends the others.
kill_job() {
  local all=() victims
  sleep "0.$(printf %03d $((RANDOM % 700)))"
  while kill -0 "$job" 2>/dev/null && [ ${#all[@]} -lt 2 ]; do mapfile -t all < <(ranks); done
  victims=("${all[@]}" $(pgrep -f "[m]pirun .*train $folder/"))
  ((RANDOM % 2)) && victims=("${all[RANDOM % 2]:-}")
  if [ "$1" = saving ]; then
    until partials || ! kill -0 "$job" 2>/dev/null; do :; done
    ((RANDOM % 2)) && sleep "0.00$((RANDOM % 9))"
  else
    sleep "0.$(printf %03d $((RANDOM % 800)))"
  fi
  kill -KILL "${victims[@]}" 2>/dev/null
}

# What must hold once the job is gone; `before`: the checkpoint it should have started from.
check() {
  curve "$run" >curve.txt
  local lines
  lines=$(wc -l <curve.txt)
  head -n "$lines" reference.txt | cmp - curve.txt || fail "the losses differ from the uninterrupted run's"
  if [ -n "$before" ] && grep -q 'step .*/' out; then
    grep -q "after step $before of" out || fail "it did not go on from step $before"
  fi
  if [ -n "$(newest_checkpoint)" ]; then
    "$muonp" checkpoint verify "runs/$run" >verified 2>&1 || { cat verified; fail "a checkpoint is damaged"; }
  fi
}

killed=0 while_saving=0 number=0 finished=0 run=reference before=
"$mpirun" -np 2 "$muonp" train tiny.yaml --set run.name=reference >out 2>&1 || fail "the uninterrupted run"
curve reference >reference.txt
[ "$(wc -l <reference.txt)" -eq $steps ] || fail "the uninterrupted run has no $steps losses"

while ((killed < kills || while_saving < saving)); do
  run=run$number
  before=$(newest_checkpoint)
  moment=any
  ((while_saving < saving && RANDOM % 4)) && moment=saving
  start "$run"
  kill_job $moment
  wait "$job" 2>/dev/null
  status=$?
  while [ -n "$(ranks)" ]; do sleep 0.01; done
  if [ $status -eq 0 ]; then  # it was done before
    check
    [ "$(wc -l <curve.txt)" -eq $steps ] || fail "it ended with status 0 before its last step"
    number=$((number + 1)) finished=$((finished + 1))
    continue
  fi
  killed=$((killed + 1))
  partials && while_saving=$((while_saving + 1))
  check
done
before=$(newest_checkpoint)
"$mpirun" -np 2 "$muonp" train tiny.yaml --set "run.name=$run" >out 2>&1 || fail "the run does not go on"
check
[ "$(wc -l <curve.txt)" -eq $steps ] || fail "the last run is not whole"
echo "$killed kills, $while_saving of them while saving; $((finished + 1)) runs went to their end with the same losses"
