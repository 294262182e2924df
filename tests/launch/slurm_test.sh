#!/usr/bin/env bash
# slurm_test.sh MUONP SLURM.SBATCH: the job script with stand-ins for srun (ranks by mpirun, signals passed on as srun does)
# and scontrol on PATH: saves and is queued again on SIGUSR1, is not on SIGTERM or after an error, and ends when done.
set -u
muonp=$1 script=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 SLURM_JOB_ID=7 PATH=$folder/bin:$PATH
fail() { echo "FAILED: $1"; cat out; exit 1; }

mkdir bin
cat >bin/srun <<'E'
#!/bin/sh
while case $1 in -*) true ;; *) false ;; esac; do echo "srun $1" >>srun.log; shift; done
exec mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -np 2 "$@"
E
printf '#!/bin/sh\necho "$@" >>scontrol.log\n' >bin/scontrol
chmod +x bin/*
for i in $(seq 4000); do printf 'sun moon river %d\n' $((i * i % 97)); done >text.txt
cat >run.yaml <<'E'
run: {steps: 100000}
data: {train: text.txt, sequence: 32, batch: 4}
model: {layers: 1, heads: 2, width: 32, context: 32}
optimizer: {matrices: {p: 1/2, lr: 1e-3}, others: {lr: 1e-3}}
log: {peak: false}
E

# job SIGNALS SETTING...: runs the script and sends the signals to it, not to its ranks, when some steps are done.
job() {
  local signals=$1 signal; shift
  : >scontrol.log
  rm -f out
  bash "$script" "$muonp" train run.yaml "$@" >out 2>&1 &
  local pid=$! i
  for i in $(seq 300); do
    [ -n "$signals" ] && grep -qs 'step   *[0-9][0-9]*/' out && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  for signal in $signals; do kill -"$signal" "$pid"; sleep 0.01; done
  wait "$pid"
}

job USR1 || fail "status $? after SIGUSR1"
grep -q 'Stopped by SIGUSR1' out || fail "the ranks did not save"
[ "$(cat scontrol.log)" = 'requeue 7' ] || fail "the job is not queued again"
grep -q -- '--mpi=pmix' srun.log || fail "srun is not told how to start MPI"
saved=$(sed -n 's/^Stopped by SIGUSR1 after step \([0-9]*\) .*/\1/p' out)

job TERM || fail "status $? after SIGTERM"
grep -q "Resumed runs/run after step $saved" out || fail "the run did not go on after step $saved"
grep -q 'Stopped by' out || fail "the ranks did not save on SIGTERM"
[ ! -s scontrol.log ] || fail "a job that is cancelled is queued again"

# A branch goes on from its own newest checkpoint, not from its start.
branch=(--set run.name=branch --set "checkpoint.resume=runs/run/checkpoints/step-$(printf %08d "$saved")")
job USR1 "${branch[@]}" || fail "status $? of a branch after SIGUSR1"
grep -q "Resumed runs/branch after step $saved" out || fail "the branch did not begin at its start"
saved=$(sed -n 's/^Stopped by SIGUSR1 after step \([0-9]*\) .*/\1/p' out)
job TERM "${branch[@]}" || fail "status $? of a branch that is queued again"
grep -q "Resumed runs/branch after step $saved" out || fail "the branch did not go on after its step $saved"

for signals in HUP 'USR1 TERM'; do
  job "$signals" || fail "status $? after $signals"
  grep -q 'Stopped by SIGUSR1' out || fail "the ranks did not save on $signals"
  [ ! -s scontrol.log ] || fail "a job that is to end by $signals is queued again"
done

job '' --set run.steps=1 || fail "status $? of a run that is done"
[ ! -s scontrol.log ] || fail "a run that is done is queued again"
job '' --set run.seed=9 && fail "status 0 after an error"
[ ! -s scontrol.log ] || fail "a job that failed is queued again"
echo passed
