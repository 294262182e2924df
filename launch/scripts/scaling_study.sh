#!/usr/bin/env bash
# How a step scales: measured on the ranks of this host, and predicted for 8 to 1,024 H100s. The tables of docs/scaling.md.
#
#   launch/scripts/scaling_study.sh FOLDER             all of it; FOLDER gets the raw data
#   launch/scripts/scaling_study.sh FOLDER --try       the same with one step of each measured point, to see that it works
#
# Measured: 1, 2 and 4 ranks of one thread, strong and weak, as configured and compressed; more ranks than processors share
# them. ROUNDS (5) of each point and STEPS (5) of each run, with nothing else on the machine. Predicted: `muonp plan` with
# configs/clusters/h100.yaml, the same sequences for each GPU at any number of GPUs.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1 rounds=${ROUNDS:-5} steps=${STEPS:-5}
[ "${2:-}" != --try ] || { rounds=1 steps=1; }
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
muonp=${MUONP:-$root/build/release/launch/muonp}
mkdir -p "$folder"
export OMP_WAIT_POLICY=passive

# A text that needs no download; what it says does not matter here.
[ -s "$folder/text.txt" ] || seq 1 400000 >"$folder/text.txt"
"$muonp" bench scaling "$root/configs/llama-10m.yaml" --ranks 1,2,4 --share-processors --threads 1 --rounds "$rounds" \
  --launcher "$root/launch/mpirun.sh" \
  --repeats "$steps" --set data.batch=4 --set "run.dir=$folder/runs" --set "data.train=$folder/text.txt" --set data.tokenizer=byte \
  --set log.peak=false --set model.vocabulary=1024 --compare parallel.zero=1 --compare parallel.zero=3 \
  --compare 'parallel.zero=1 compression.to_owner=int8 compression.to_workers=int8' --json >"$folder/measured.json"

# predict MODEL SEQUENCES MICRO_BATCH CONFIGURATION SETTING...: one line of predicted.jsonl for each number of GPUs.
predict() {
  local model=$1 sequences=$2 micro_batch=$3 configuration=$4 set=() value ranks owners
  shift 4
  for value in data.micro_batch="$micro_batch" parallel.compute=bfloat16 parallel.overlap=true "$@"; do
    set+=(--set "$value")
  done
  for ranks in 8 16 32 64 128 256 512 1024; do
    for owners in whole auto; do
      "$muonp" plan "$root/configs/$configuration" --ranks "$ranks" --cluster "$root/configs/clusters/h100.yaml" \
        "${set[@]}" --set "data.batch=$((sequences * ranks))" --set "parallel.owners=$owners" --json |
        python3 -c 'import json, sys
print(json.dumps({"model": sys.argv[1], "owners": sys.argv[2], **json.load(sys.stdin)["predictions"][0]}))' "$model" "$owners"
    done
  done
}
{
  predict 'GPT-2 124M' 32 32 gpt2-124m.yaml
  predict 'GPT-2 1.5B' 16 8 gpt2-124m.yaml model.preset=gpt2-1558m
  predict 'Llama 70B' 2 1 llama-10m.yaml data.tokenizer=byte data.sequence=4096 model.context=4096 model.layers=80 \
    model.width=8192 model.heads=64 model.kv_heads=8 model.head_size=128 model.hidden=28672 model.vocabulary=32000 \
    model.recompute=blocks parallel.zero=3
} >"$folder/predicted.jsonl"
rm -rf "$folder/runs"
python3 "$root/launch/scripts/scaling_table.py" "$folder"
