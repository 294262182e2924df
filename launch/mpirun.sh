#!/usr/bin/env bash
# mpirun for ranks on this host, or with --host / --hostfile on others, that ends training the gentle way: Ctrl-C and
# SIGTERM reach every rank as SIGUSR1, on which they save a checkpoint and end with status 0. (mpirun's own way is
# SIGTERM and, one second later, SIGKILL.) A second Ctrl-C ends everything at once.
#
#   launch/mpirun.sh -np 2 build/release/launch/muonp train configs/quickstart.yaml
#
# Options that suit ranks sharing a host: not bound to core 0, yielding while idle.
set -u
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
terminal=()
[ -t 1 ] && terminal=(-x MUONP_TERMINAL=1)  # the ranks cannot see where their output goes
# In a session of its own, so that the terminal's Ctrl-C does not reach mpirun itself. Containers forbid the system call
# of vader's single-copy mechanism.
setsid mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 \
  --mca btl_vader_single_copy_mechanism none "${terminal[@]}" "$@" &
pid=$!
stop() {
  trap 'kill -TERM "$pid" 2>/dev/null' INT TERM
  kill -USR1 "$pid" 2>/dev/null
}
trap stop INT TERM
# `wait` returns early when a signal comes.
while wait "$pid"; status=$?; kill -0 "$pid" 2>/dev/null; do :; done
exit "$status"
