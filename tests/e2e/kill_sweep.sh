#!/usr/bin/env bash
# Kills training runs with SIGKILL at seeded random moments, some of them while a checkpoint is being written, and goes
# on from what they left: `muonp checkpoint verify` must find nothing damaged, the same command must go on from the
# checkpoint of its own line that was written last, and its losses must be those of a run that nobody killed, digit by digit.
# Runs take turns at being two lines in one folder (killed once, they go back to the oldest of their checkpoints and set the
# newer ones aside), a branch that starts in another run's folder, and one line from the beginning.
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
  echo "FAILED: kill $killed ($run ${line[*]}): $*"
  tail -n 30 "$folder/out" | sed 's/^/  | /'
  exit 1
}

# The losses that a run has written so far, one line a step.
curve() { grep -o '^{"step":[0-9]*,"loss":[^,]*' "runs/$1/metrics.jsonl" 2>/dev/null; }

partials() { compgen -G "runs/$run/checkpoints/*.partial" >/dev/null; }

# Of the checkpoint that was written last: its step, and 1 if it is of a branch.
newest() {
  "$muonp" checkpoint list "runs/$run" --json 2>/dev/null |
    awk '/^    "step":/ { s = $2 + 0 } /^    "starts": \[/ { b = $2 == "[" } END { if (s) print s, b }'
}
# The step that the next run has to go on from; nothing for the beginning.
expected() {
  local step branch
  read -r step branch <<<"$(newest)"
  if [ -n "$start" ] && [ "${branch:-0}" = 0 ]; then echo "$start"; else echo "${step:-}"; fi
}

# begin_run: the next one. `line`: its settings; `start`: the step that its branch starts at.
begin_run() {
  number=$((number + 1)) run=run$number line=() start=''
  if ((number % 3 == 1)); then
    start=$((10 * (1 + RANDOM % 20)))
    line=(--set "checkpoint.resume=runs/reference/checkpoints/step-$(printf %08d $start)")
  fi
}
# Of two lines: goes back once there is something to go back to.
branch_off() {
  local saved
  ((number % 3 == 0)) && [ -z "$start" ] || return
  saved=("runs/$run"/checkpoints/step-????????)
  [ ${#saved[@]} -gt 1 ] || return
  start=$((10#${saved[0]##*step-}))
  line=(--set "checkpoint.resume=$start" --set checkpoint.set_aside=true)
  branched=$((branched + 1))
}

# start: in the background as a job of its own, whose processes carry the folder's name.
start_job() {
  "$mpirun" -np 2 "$muonp" train "$folder/tiny.yaml" --set "run.name=$run" "${line[@]}" >out 2>&1 &
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
  if ((number % 3 == 0)) && [ -z "$start" ]; then  # one to go back to
    until [ "$(compgen -G "runs/$run/checkpoints/step-????????" | wc -l)" -gt 1 ] || ! kill -0 "$job" 2>/dev/null; do
      sleep 0.01
    done
  fi
  if [ "$1" = saving ]; then
    until partials || ! kill -0 "$job" 2>/dev/null; do :; done
    ((RANDOM % 2)) && sleep "0.00$((RANDOM % 9))"
  else
    sleep "0.$(printf %03d $((RANDOM % 800)))"
  fi
  kill -KILL "${victims[@]}" 2>/dev/null
}

# What must hold once the job is gone; `before`: the step that it should have started from.
check() {
  curve "$run" >curve.txt
  local lines first
  lines=$(wc -l <curve.txt)
  first=$(sed -n '1s/^{"step":\([0-9]*\),.*/\1/p' curve.txt)
  tail -n "+${first:-1}" reference.txt | head -n "$lines" | cmp - curve.txt ||
    fail "the losses differ from the uninterrupted run's"
  if grep -q '^Resumed ' out || { [ -n "$before" ] && grep -q '^step ' out; }; then
    grep -q "after step ${before:-none} of" out || fail "it did not go on from step ${before:-none}"
  fi
  for saved in "runs/$run" "runs/$run"/aside-*; do
    [ -n "$(compgen -G "$saved/checkpoints/step-????????")" ] || continue
    "$muonp" checkpoint verify "$saved" >verified 2>&1 || { cat verified; fail "a checkpoint is damaged"; }
  done
}
done_to_the_end() { [ "$(tail -n 1 curve.txt)" = "$(tail -n 1 reference.txt)" ]; }

killed=0 while_saving=0 number=-1 finished=0 branched=0 run=reference line=() start='' before=''
"$mpirun" -np 2 "$muonp" train tiny.yaml --set run.name=reference --set checkpoint.keep=100 >out 2>&1 ||
  fail "the uninterrupted run"
curve reference >reference.txt
[ "$(wc -l <reference.txt)" -eq $steps ] || fail "the uninterrupted run has no $steps losses"

begin_run
while ((killed < kills || while_saving < saving)); do
  branch_off
  before=$(expected)
  moment=any
  ((while_saving < saving && RANDOM % 4)) && moment=saving
  start_job
  kill_job $moment
  wait "$job" 2>/dev/null
  status=$?
  while [ -n "$(ranks)" ]; do sleep 0.01; done
  if [ $status -eq 0 ]; then  # it was done before
    check
    done_to_the_end || fail "it ended with status 0 before its last step"
    finished=$((finished + 1))
    begin_run
    continue
  fi
  grep -qE '^muonp: error: .*(checkpoint\.resume|in use)' out && fail "the run was refused"
  killed=$((killed + 1))
  partials && while_saving=$((while_saving + 1))
  check
done
before=$(expected)
"$mpirun" -np 2 "$muonp" train tiny.yaml --set "run.name=$run" "${line[@]}" >out 2>&1 || fail "the run does not go on"
check
done_to_the_end || fail "the last run is not whole"
echo "$killed kills, $while_saving of them while saving; $((finished + 1)) runs went to their end with the same losses," \
  "$branched of them by two lines in one folder"
