#!/usr/bin/env bash
# mpirun for ranks on this host, or with --host / --hostfile on others, that ends training the gentle way: Ctrl-C, SIGTERM,
# SIGUSR1 and SIGHUP (a terminal that is closed; not under nohup) reach every rank as SIGUSR1, on which they save a
# checkpoint and end with status 0. (mpirun's own way is SIGTERM and, one second later, SIGKILL.) A second one, or Ctrl-\,
# ends everything at once.
#
#   launch/mpirun.sh -np 2 build/release/launch/muonp train configs/quickstart.yaml
#
# Options that suit ranks sharing a host: not bound to core 0, yielding while idle. Where mpirun hangs it is ended, status 1:
# 20 s after a rank has said why it ends the job, for mpirun waits for its daemon on every host, for ever if one is frozen;
# and 10 s after a signal that no rank has answered, for then none has started. Standard output that a full disk does not
# take does not end the run; it is an error at its end, status 1.
set -u
trap '' PIPE  # what nobody reads any more is not printed, and the run goes on
[ -e /dev/fd/0 ] || exec </dev/null  # otherwise the next file that is opened would be taken for it
[ -e /dev/fd/1 ] || exec >/dev/null
[ -e /dev/fd/2 ] || exec 2>/dev/null
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
terminal=()
[ -t 1 ] && terminal=(-x MUONP_TERMINAL=1)  # the ranks cannot see where their output goes

# In a session of its own, so that the terminal's Ctrl-C does not reach mpirun itself. Containers forbid the system call
# of vader's single-copy mechanism. Without the hole in its address space for a map of the machine, which it may put where
# its stack grows, Open MPI 4.1's daemon does not now and then die at the start.
#
# mpirun ends the ranks when its output cannot be written any more: what stands between reads on, and throws it away. Its
# status is 1 for a full disk, and 0 where nobody reads: a reader that has gone, a terminal that was closed.
pass_on() {
  local why
  trap '' INT TERM HUP USR1 QUIT
  { why=$(LC_ALL=C cat 2>&1 >&3) && return; } 3>&1
  cat >/dev/null
  case ${terminal[*]}$why in *MUONP_TERMINAL* | *'Broken pipe'*) return 0 ;; esac
  why=${why##*: }
  echo "muonp: error: standard output cannot be written: $why; what was printed is incomplete" >&2
  return 1
}
exec {out}> >(pass_on)
relay=$!
exec {said}< <(exec setsid mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca rtc_hwloc_vmhole none \
  --mca btl_vader_single_copy_mechanism none "${terminal[@]}" "$@" 2>&1 >&"$out" </dev/null {out}>&-)
pid=$!
exec {out}>&-

deadline='' late='' signals=0 answered='' forced=''
within() { deadline=$((SECONDS + $1)) late=$2; }  # within SECONDS MESSAGE: after that the message, and the end
stop() {
  signals=$((signals + 1))
  if [ "$signals" -eq 1 ]; then
    kill -USR1 "$pid" 2>/dev/null
    [ -n "$answered$deadline" ] || within 10 'no rank has answered the signal for 10 s; mpirun is ended'
  else
    kill -TERM "$pid" 2>/dev/null
    within 10 'mpirun has not ended 10 s after the second signal; it is killed'
  fi
}
trap stop INT TERM HUP USR1
trap 'signals=1; stop' QUIT

hear() {  # hear LINE: of what mpirun and the ranks say
  printf '%s\n' "$1" >&2
  case $1 in
    'muonp: error: rank '*) within 20 'mpirun has not ended 20 s after that: a host does not answer; mpirun is ended' ;;
    'muonp: SIG'*': the run ends'*) answered=1; [ -n "$forced" ] || deadline='' ;;
  esac
}
session() {  # the processes that mpirun has started on this host, and itself; daemons' agents have groups of their own
  local stat fields
  for stat in /proc/[0-9]*/stat; do
    { read -r fields <"$stat"; } 2>/dev/null || continue
    set -- ${fields##*) }  # state, parent, group, session
    [ "$4" != "$pid" ] || { stat=${stat#/proc/} && echo "${stat%/stat}"; }
  done
}
end() {  # SIGTERM first, on which mpirun ends what it has started
  echo "muonp: $late" >&2
  if [ -z "$forced" ] && [ "$signals" -lt 2 ]; then
    forced=1
    kill -TERM "$pid" 2>/dev/null
    within 5 'mpirun does not end; it is killed'
  else
    forced=1 deadline=''
    kill -KILL $(session) 2>/dev/null
  fi
}

line=''
while :; do
  IFS= read -r -t 1 -u "$said" part
  got=$?
  line+=$part
  if [ "$got" -eq 0 ]; then
    hear "$line"
    line=''
  elif [ "$got" -le 128 ]; then
    break  # all have ended
  fi
  [ -z "$deadline" ] || [ "$SECONDS" -lt "$deadline" ] || end
  kill -0 "$pid" 2>/dev/null || [ "$got" -eq 0 ] || break  # what it has left behind may hold the pipe
done
[ -z "$line" ] || printf '%s\n' "$line" >&2
while wait "$pid"; kill -0 "$pid" 2>/dev/null; do :; done
wait "$pid"; status=$?
[ -z "$forced" ] || status=1
left=$(session)
[ -z "$left" ] || kill -KILL $left 2>/dev/null
wait "$relay" 2>/dev/null  # until all is printed
[ $? -ne 1 ] || [ "$status" -ne 0 ] || status=1
exit "$status"
