#!/usr/bin/env bash
# Two hosts on one machine: network namespaces with host names h0 and h1, joined by a link of a given rate, between which
# launch/mpirun.sh starts ranks as it does between machines. Everything is removed at the end, also after Ctrl-C.
#
#   tests/support/two_hosts.sh --rate 1gbit -np 4 --host h0:2,h1:2 -- muonp train configs/quickstart.yaml
#   tests/support/two_hosts.sh -np 4 --host h0:1,h1:3 -- hostname       as fast as the machine can
#   tests/support/two_hosts.sh --check                                  whether this machine can
#
# --rate RATE   of each direction, as tc writes it: 100mbit, 1gbit, 10gbit; unlimited without it
#
# What else stands before -- goes to mpirun; --host must name h0, h1 or both. Status: the program's; 77 where there is no
# root, no iproute2 or no right to make namespaces. Ctrl-C and SIGTERM go on to launch/mpirun.sh.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
refuse() { echo "muonp: error: two hosts on one machine: $1" >&2; exit "${2:-1}"; }

# two_hosts.sh --on HOST COMMAND: how mpirun reaches a host, as by ssh. A command of several words is for the shell.
if [ "${1:-}" = --on ]; then
  host=$2; shift 2
  exec ip netns exec "$MUONP_HOSTS-$host" unshare --uts bash -c "hostname $host; exec $*"
fi

rate='' check='' options=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --check) check=1; shift ;;
    --rate) rate=${2:?--rate RATE}; shift 2 ;;
    --) shift; break ;;
    *) options+=("$1"); shift ;;
  esac
done
if [ -z "$check" ]; then
  [ $# -gt 0 ] || refuse "no program; usage: two_hosts.sh [--rate 1gbit] -np 4 --host h0:2,h1:2 -- PROGRAM ..."
  [[ " ${options[*]} " =~ ' --host'(file)?' ' ]] || refuse "--host is missing, for instance --host h0:2,h1:2"
fi

[ "$(id -u)" -eq 0 ] || refuse "needs root, for network namespaces" 77
for tool in ip tc unshare setsid; do
  command -v "$tool" >/dev/null || refuse "$tool is not installed (Debian packages iproute2, util-linux)" 77
done

prefix=muonp$$ pid=''
export MUONP_HOSTS=$prefix
TMPDIR=$(mktemp -d) && export TMPDIR
remove() { # remove PREFIX: both hosts and what still runs there, a stopped rank for instance
  local h
  for h in "$1-h0" "$1-h1"; do
    [ -e "/run/netns/$h" ] || continue
    ip netns pids "$h" | xargs -r kill -KILL 2>/dev/null
    ip netns del "$h"
  done
}
stop() { [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null; }
trap 'remove "$prefix"; rm -rf "$TMPDIR"' EXIT
trap 'stop' INT TERM

# What a run left behind that was killed itself.
for left in /run/netns/muonp*-h0; do
  owner=${left##*/muonp} owner=${owner%-h0}
  [ ! -e "$left" ] || kill -0 "$owner" 2>/dev/null || remove "muonp$owner"
done

make() {
  local i
  ip netns add "$prefix-h0" && ip netns add "$prefix-h1" &&
    ip link add v0 netns "$prefix-h0" type veth peer name v1 netns "$prefix-h1" || return
  for i in 0 1; do
    ip -n "$prefix-h$i" address add "10.77.0.$((i + 1))/24" dev "v$i" &&
      ip -n "$prefix-h$i" link set lo up && ip -n "$prefix-h$i" link set "v$i" up || return
  done
}
limit() { # token bucket on both ends of the link
  local i
  for i in 0 1; do
    tc -n "$prefix-h$i" qdisc add dev "v$i" root tbf rate "$rate" burst 512kb latency 100ms || return
  done
}
why=$(make 2>&1) || refuse "namespaces cannot be made here: $why" 77
[ -z "$rate" ] || why=$(limit 2>&1) || refuse "--rate $rate: $why"
[ -z "$check" ] || exit 0

# In a session of its own: the terminal's Ctrl-C comes through this script, once.
net=10.77.0.0/24
setsid ip netns exec "$prefix-h0" unshare --uts bash -c 'hostname h0; exec "$@"' h0 \
  "$here/../../launch/mpirun.sh" --mca plm_rsh_agent "$here/two_hosts.sh --on" --mca btl tcp,vader,self \
  --mca btl_tcp_if_include "$net" --mca oob_tcp_if_include "$net" "${options[@]}" "$@" &
pid=$!
while wait "$pid"; kill -0 "$pid" 2>/dev/null; do :; done
wait "$pid"; status=$?
exit "$status"
