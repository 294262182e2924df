#!/usr/bin/env bash
# What one rank holds at most, beside what `muonp plan` says: trains a configuration for two steps on one process and looks
# at the memory that is its own (RssAnon: without files that are mapped, which the system takes back when it needs to).
#
#   launch/scripts/measure_memory.sh configs/icml-lora.yaml --set data.batch=2
#
# The process has more than what is planned: libraries, their scratch memory, the tokenizer.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
muonp=${MUONP:-$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)/build/release/launch/muonp}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
short=(--set run.steps=2 --set schedule.warmup=0 --set "run.dir=$scratch" --set log.peak=false)
planned=$("$muonp" plan "$@" "${short[@]}" --json | sed -n 's/^ *"peak_bytes": \([0-9]*\),*$/\1/p')
"$muonp" train "$@" "${short[@]}" >"$scratch/log" 2>&1 &
process=$! most=0
while kill -0 "$process" 2>/dev/null; do
  now=$(awk '/RssAnon/ { print $2 }' "/proc/$process/status" 2>/dev/null || true)
  [ "${now:-0}" -le "$most" ] || most=$now
  sleep 0.05
done
wait "$process" || { tail -n 20 "$scratch/log" >&2; exit 1; }
awk -v planned="$planned" -v most="$most" \
  'BEGIN { printf "planned %.0f MiB, held at most %.0f MiB: %.3f x\n", planned / 1048576, most / 1024, 1024 * most / planned }'
