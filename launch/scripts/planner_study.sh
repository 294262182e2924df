#!/usr/bin/env bash
# How far `muonp plan --cluster` is from what a step takes and holds on this machine: in each round measures its rates, predicts
# 16 settings from them (two models; one and two ranks of this host, and two hosts joined by a link of 1 Gb/s; ZeRO stages;
# compression) and measures each, and at last prints the table of docs/planner.md. No rate comes from the settings themselves.
#
#   launch/scripts/planner_study.sh FOLDER             all of it; FOLDER gets the cluster files and the raw data
#   launch/scripts/planner_study.sh FOLDER --try       the same with one short run of each, to see that it works
#
# ROUNDS (5) and STEPS (9) of each round; SECONDS_A_RATE (0.5). Needs root for two hosts (tests/support/two_hosts.sh) and
# nothing else on the machine: each rank has one thread, and one core.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1 rounds=${ROUNDS:-5} steps=${STEPS:-9} seconds=${SECONDS_A_RATE:-0.5} largest=2048
[ "${2:-}" != --try ] || { rounds=1 steps=1 seconds=0.001 largest=128; }
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
muonp=${MUONP:-$root/build/release/launch/muonp}
mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd)
raw=$folder/raw.jsonl
: >"$raw"
export OMP_WAIT_POLICY=passive

# Bytes that are hard to guess, and models of two families.
awk 'BEGIN { srand(7); for (i = 0; i < 40000; ++i) { s = ""; for (j = 0; j < 50; ++j) s = s sprintf("%c", 97 + int(26 * rand())); print s } }' \
  >"$folder/text.txt"
configuration() { # configuration NAME SEQUENCE BATCH MODEL...
  local name=$1 sequence=$2 batch=$3
  shift 3
  printf '%s\n' "run: {name: study, dir: $folder/runs, steps: 1000}" \
    "data: {train: $folder/text.txt, sequence: $sequence, batch: $batch}" "model: {$*}" \
    'parallel: {threads: 1, bucket_mib: 4, timeout_seconds: 300}' 'log: {peak: false}' >"$folder/$name.yaml"
}
configuration gpt 128 16 'layers: 4, heads: 4, width: 256, context: 128'
configuration llama 256 8 'family: llama, layers: 6, heads: 6, kv_heads: 2, width: 384, hidden: 1024, context: 256'

alone() { "$muonp" "$@"; }
together() { "$root/launch/mpirun.sh" -np 2 "$muonp" "$@"; }
apart() { "$root/tests/support/two_hosts.sh" --rate 1gbit -np 2 --host h0:1,h1:1 -- "$muonp" "$@"; }

rates() { # rates HOW FILE
  "$1" bench --write-cluster "$folder/$2" --threads 1 --seconds "$seconds" --largest "$largest"
}

settings=()
for model in gpt llama; do
  settings+=("$model alone 1 one-host.yaml parallel.zero=0" "$model alone 1 one-host.yaml parallel.zero=1"
    "$model together 2 one-host.yaml parallel.zero=0" "$model together 2 one-host.yaml parallel.zero=1"
    "$model together 2 one-host.yaml parallel.zero=3"
    "$model together 2 one-host.yaml parallel.zero=1 compression.to_owner=int8 compression.to_workers=int8"
    "$model apart 2 two-hosts.yaml parallel.zero=1"
    "$model apart 2 two-hosts.yaml parallel.zero=1 compression.to_owner=int8 compression.to_workers=int8")
done

# One line for each run: its setting, and what the program said; of a prediction what can be compared.
record() { # record KIND SETTING JSON-FILE
  python3 -c 'import json, sys
kind, setting, result = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))
if kind == "predicted":
    step = result["predictions"][0]
    result = {key: step[key] for key in ("step_seconds", "bound_by", "bytes_sent", "memory_bytes")}
    result["phases"] = {phase["phase"]: round(phase["seconds"], 6) for phase in step["phases"]}
print(json.dumps({"kind": kind, "setting": setting, "result": result}))' "$1" "$2" "$3" >>"$raw"
}
arguments() { # arguments KEY=VALUE...: as --set options, in the array `set`
  set=()
  for value in "$@"; do set+=(--set "$value"); done
}
for ((round = 0; round < rounds; ++round)); do
  rm -f "$folder/one-host.yaml" "$folder/two-hosts.yaml"
  rates alone one-host.yaml
  rates together one-host.yaml
  rates apart two-hosts.yaml
  for setting in "${settings[@]}"; do
    read -r model how ranks cluster values <<<"$setting"
    # shellcheck disable=SC2086  # words
    arguments $values
    "$muonp" plan "$folder/$model.yaml" --ranks "$ranks" --cluster "$folder/$cluster" "${set[@]}" --json >"$folder/last.json"
    record predicted "$setting" "$folder/last.json"
    "$how" bench step "$folder/$model.yaml" --repeats "$steps" "${set[@]}" --json >"$folder/last.json"
    record measured "$setting" "$folder/last.json"
  done
done
rm -rf "$folder/last.json" "$folder/runs"
python3 "$root/launch/scripts/planner_table.py" "$raw"
