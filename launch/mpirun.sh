#!/usr/bin/env bash
# mpirun for ranks on this host, or with --host / --hostfile on others, that ends training the gentle way: Ctrl-C and
# SIGTERM reach every rank as SIGUSR1, on which they save a checkpoint and end with status 0. (mpirun's own way is
# SIGTERM and, one second later, SIGKILL.) A second Ctrl-C ends everything at once.
#
#   launch/mpirun.sh -np 2 build/release/launch/muonp train configs/quickstart.yaml
#
# Options that suit ranks sharing a host: not bound to core 0, yielding while idle. mpirun waits for its daemon on every host,
# for ever if one is frozen: 20 s after a rank has said why it ends the job, mpirun is ended too, status 1.
set -u
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
terminal=()
[ -t 1 ] && terminal=(-x MUONP_TERMINAL=1)  # the ranks cannot see where their output goes
failed=$(mktemp -u)
# Passes on what the ranks say, until all have ended.
relay() {
  local line
  trap '' INT TERM
  while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\n' "$line" >&2
    [[ $line != 'muonp: error: rank '* ]] || : >"$failed"
  done
}
end_when_stuck() {
  until [ -e "$failed" ]; do sleep 1 >/dev/null 2>&1; done
  sleep 20 >/dev/null 2>&1
  echo 'muonp: mpirun has not ended 20 s after that: a host does not answer; mpirun is ended' >&2
  kill -KILL -- "-$pid"
}
exec {errors}> >(relay)
relay=$!
# In a session of its own, so that the terminal's Ctrl-C does not reach mpirun itself. Containers forbid the system call
# of vader's single-copy mechanism. Without the hole in its address space for a map of the machine, which it may put where
# its stack grows, Open MPI 4.1's daemon does not now and then die at the start.
setsid mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca rtc_hwloc_vmhole none \
  --mca btl_vader_single_copy_mechanism none "${terminal[@]}" "$@" 2>&"$errors" {errors}>&- &
pid=$!
exec {errors}>&-
end_when_stuck &
watcher=$!
stop() {
  trap 'kill -TERM "$pid" 2>/dev/null' INT TERM
  kill -USR1 "$pid" 2>/dev/null
}
trap stop INT TERM
# `wait` returns early when a signal comes.
while wait "$pid"; status=$?; kill -0 "$pid" 2>/dev/null; do :; done
if kill "$watcher" 2>/dev/null; then
  wait "$relay"
else
  status=1
fi
rm -f "$failed"
exit "$status"
