#!/usr/bin/env bash
# A training run that survives its failures: starts it by launch/mpirun.sh and, when it ends with a status other than 0,
# starts it again from its newest checkpoint, until it is done.
#
#   launch/resilient.sh --ranks 4 -- build/release/launch/muonp train configs/quickstart.yaml --set checkpoint.every=50
#   launch/resilient.sh --ranks 4 --shrink --min-ranks 2 -- muonp train CONFIG    after a failure with fewer ranks
#   launch/resilient.sh --hostfile hosts -- muonp train CONFIG                    on the hosts that answer
#
# --ranks N          ranks to start; without it all slots of the hostfile
# --min-ranks K      give up rather than go on with fewer (1)
# --shrink           one rank fewer after each failure
# --hostfile FILE    lines "host slots=4": before each start every host is asked, and those that do not answer are left out
# --agent COMMAND    how a host is reached: COMMAND HOST ... (ssh -o BatchMode=yes -o ConnectTimeout=5)
# --max-restarts N   give up after so many (100)
# --delay S          pause before a restart; doubled, up to 5 minutes, while there is no progress (2) [s]
#
# The number of ranks that are started is the largest of those at hand that divides data.batch. What else stands before --
# goes to mpirun. Gives up, with the run's status, when two runs in a row end without a new checkpoint. Ctrl-C, SIGTERM and
# SIGHUP (a terminal that is closed; not under nohup) save and end the run, status 0.
set -u
trap '' PIPE  # what nobody reads any more is not printed, and the run goes on
[ -e /dev/fd/0 ] || exec </dev/null  # otherwise the next file that is opened would be taken for it
[ -e /dev/fd/1 ] || exec >/dev/null
[ -e /dev/fd/2 ] || exec 2>/dev/null
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
say() { echo "resilient: $1" >&2; }
refuse() { echo "muonp: error: resilient.sh: $1" >&2; exit 1; }
number() { # number OPTION VALUE LEAST
  [[ $2 =~ ^[0-9]+$ ]] && [ "$2" -ge "$3" ] || refuse "$1 $2: a whole number from $3 on is expected"
}

ranks='' least=1 shrink='' hostfile='' agent='ssh -o BatchMode=yes -o ConnectTimeout=5' restarts=100 delay=2 options=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) sed -n '2,22s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --shrink) shrink=1; shift; continue ;;
    --) shift; break ;;
    --ranks | --min-ranks | --hostfile | --agent | --max-restarts | --delay) [ $# -gt 1 ] || refuse "$1 needs a value" ;;
    *) options+=("$1"); shift; continue ;;
  esac
  case $1 in
    --ranks) number "$1" "$2" 1; ranks=$2 ;;
    --min-ranks) number "$1" "$2" 1; least=$2 ;;
    --hostfile) [ -r "$2" ] || refuse "--hostfile $2: cannot be read"; hostfile=$2 ;;
    --agent) agent=$2 ;;
    --max-restarts) number "$1" "$2" 0; restarts=$2 ;;
    --delay) number "$1" "$2" 0; delay=$2 ;;
  esac
  shift 2
done
[ "${2:-}" = train ] || refuse "usage: resilient.sh --ranks N [OPTIONS] -- muonp train CONFIG ... (--help)"
[ -n "$ranks$hostfile" ] || refuse "give --ranks N, --hostfile FILE or both"

setting() { "$muonp" config "${line[@]}" --get "$1"; }
muonp=$1 line=("${@:3}")
dir=$(setting run.dir) || exit  # it has said why
name=$(setting run.name) batch=$(setting data.batch) micro=$(setting data.micro_batch)
[ "$(setting checkpoint.resume)" != none ] ||
  refuse "checkpoint.resume is none: a restart would not go on; auto, or the start of a branch, does"
[ "$(setting checkpoint.every)" != 0 ] || say "checkpoint.every is 0: a run that fails starts over"

look() { # at the checkpoint written last: its step to $step, when it was written to $written; 0 for none
  local key value
  step=0 written=0
  while IFS=' :,' read -r key value; do
    case $key in '"step"') step=$value ;; '"written_us"') written=$value ;; esac
  done < <("$muonp" checkpoint list "$dir/$name" --json 2>/dev/null | grep -E '^    "(step|written_us)": [0-9]+,$')
}
answers() { [ "$1" = localhost ] || [ "$1" = "$(hostname)" ] || timeout 20 $agent "$1" true </dev/null >/dev/null 2>&1; }
use_hosts() { # writes the lines of the hosts that answer to $hosts, and their slots to $slots
  local name rest
  slots=0
  : >"$hosts"
  while read -r name rest <&3; do
    [[ -z $name || $name == \#* ]] && continue
    answers "$name" || { say "host $name does not answer; it is left out"; continue; }
    echo "$name $rest" >>"$hosts"
    [[ $rest =~ slots=([0-9]+) ]] && slots=$((slots + BASH_REMATCH[1])) || slots=$((slots + 1))
  done 3<"$hostfile"
}
suits() { [ $((batch % $1)) -eq 0 ] && { [ "$micro" -eq 0 ] || [ $((batch / $1 % micro)) -eq 0 ]; }; }

hosts=$(mktemp) pid='' stopping=''
trap 'rm -f "$hosts"' EXIT
trap 'stopping=1; [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null' INT TERM HUP USR1
trap 'stopping=1; [ -z "$pid" ] || kill -QUIT "$pid" 2>/dev/null' QUIT

starts=0 idle=0 limit=${ranks:-1000000} pause=$delay
while :; do
  n=$limit
  if [ -n "$hostfile" ]; then
    use_hosts
    n=$((slots < limit ? slots : limit))
  fi
  while [ "$n" -gt 0 ] && ! suits "$n"; do n=$((n - 1)); done
  if [ "$n" -lt "$least" ]; then
    say "gives up: no number of ranks from $least on is at hand and divides data.batch, $batch"
    exit "${status:-1}"
  fi

  look
  before=$written
  [ "$starts" -eq 0 ] || say "restart $starts of at most $restarts, on $n ranks, from step $step"
  # In a session of its own: the terminal's Ctrl-C comes through this script, once.
  setsid "$here/mpirun.sh" -np "$n" ${hostfile:+--hostfile "$hosts" --mca plm_rsh_agent "$agent"} "${options[@]}" "$@" &
  pid=$!
  while wait "$pid"; kill -0 "$pid" 2>/dev/null; do :; done
  wait "$pid"; status=$?
  pid=''
  [ "$status" -ne 0 ] && [ -z "$stopping" ] || exit "$status"

  look  # a branch may be at a lower step than the line that it has set aside
  if [ "$written" -gt "$before" ]; then idle=0 pause=$delay; else idle=$((idle + 1)); fi
  say "the run ended with status $status; its newest checkpoint is of step $step"
  if [ "$idle" -ge 2 ]; then
    say "gives up: two runs in a row made no progress beyond step $step; the message above says why they ended"
    exit "$status"
  fi
  [ "$starts" -lt "$restarts" ] || { say "gives up after $restarts restarts"; exit "$status"; }
  starts=$((starts + 1))
  [ -z "$shrink" ] || limit=$((n - 1))
  sleep "$pause" & wait $!
  kill $! 2>/dev/null
  [ -z "$stopping" ] || exit 0
  pause=$((idle > 0 && pause < 150 ? 2 * pause : pause))
done
