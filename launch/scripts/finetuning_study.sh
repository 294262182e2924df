#!/usr/bin/env bash
# What Muon^p does when a pretrained model is finetuned, beside AdamW: SmolLM2-135M-Instruct on 2,000 word problems and, apart,
# on the King James Bible. AdamW and p = 0, 1/4, 1/3, 1/2, full; AdamW and p = 1/3 with LoRA of rank 8. Each at four learning
# rates or more (the same grid for all rules, in the units of match_rms), then two seeds at the best, with what the model
# forgets: the loss on two other texts. The tables and figures of docs/finetuning.md.
#
#   launch/scripts/finetuning_study.sh [STEPS [gsm|kjv]...]     12 steps of 1,024 tokens, both data, unless said otherwise
#
# Two runs at a time, one thread each. Runs that are complete are not run again, so that it may be stopped at any time, also
# on another machine: `launch/scripts/finetuning_table.py` packs what they said in one file and unpacks it there. Needs
# build/release (cmake --build --preset release), root or sudo for Debian's texts, and PyPI. MUONP_STUDY_MODEL is a folder
# with another model, MUONP_STUDY_LIMIT the number of problems answered (100; of other texts a twelfth of it in windows),
# MUONP_STUDY_COMPUTE the type of the products (bfloat16; float32 is faster where a processor has no products of bfloat16).
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/../.."
steps=${1:-12}
[[ $steps =~ ^[1-9][0-9]{0,5}$ ]] || { echo "muonp: error: '$steps' is no number of steps; valid: 1 to 999999" >&2; exit 1; }
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- gsm kjv
for data in "$@"; do
  [[ $data =~ ^(gsm|kjv)$ ]] || { echo "muonp: error: '$data' is no data of this study; valid: gsm, kjv" >&2; exit 1; }
done
muonp=${MUONP:-build/release/launch/muonp}
model=${MUONP_STUDY_MODEL:-runs/models/SmolLM2-135M-Instruct}
limit=${MUONP_STUDY_LIMIT:-100}
compute=${MUONP_STUDY_COMPUTE:-bfloat16}
folder=runs/finetuning-$steps
[ -n "${MUONP_STUDY_MODEL:-}" ] || ./launch/scripts/fetch_smollm2.sh "$model"
./launch/scripts/write_tasks.sh runs/data/gsm
./launch/fetch_kjv.sh runs/data/kjv.txt
./launch/install_dependencies.sh anarchism
mkdir -p "$folder" runs/data

# Other texts, of which the first 64 KiB are enough: modern essays, and the Bible or, for the model that was tuned on it, a licence.
other() {  # other FILE: the first 64 KiB of standard input, in whole lines
  LC_ALL=C awk '(bytes += length($0) + 1) <= 65536' >"$1.partial"
  mv "$1.partial" "$1"
}
essays() { dpkg -L anarchism | grep -E '/markdown/sec[A-Z0-9]+\.md\.gz$' | LC_ALL=C sort | xargs -r zcat; }
essays | other runs/data/essays.txt
other runs/data/bible-start.txt <runs/data/kjv.txt
cat LICENSE /usr/share/common-licenses/GPL-3 /usr/share/common-licenses/MPL-2.0 | other runs/data/licences.txt
for text in essays bible-start licences; do
  [ -s "runs/data/$text.txt" ] && continue
  echo "muonp: error: there is nothing to make runs/data/$text.txt of; does dpkg leave /usr/share/doc out?" >&2
  exit 1
done

settings_of() {  # settings_of ARM LR: one a line
  echo "optimizer.matrices.lr=$2"
  case $1 in
    adamw) printf '%s\n' optimizer.matrices.rule=adamw "optimizer.others.lr=$2" ;;
    lora-adamw) echo optimizer.matrices.rule=adamw ;;
    *p-*-*) printf '%s\n' "optimizer.matrices.p=$(sed -E 's/.*p-([0-9])-([0-9])/\1\/\2/' <<<"$1")" ;;
    *p-0) echo optimizer.matrices.p=0 ;;
  esac
  case $1 in lora-*) printf '%s\n' "optimizer.others.lr=$2" model.lora.rank=8 model.lora.alpha=16 \
    'model.lora.modules=[q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]' ;; esac
}
# What a model answers and forgets: a text, problems. As entries of `eval`, done after the last step, and as `muonp eval` has it.
other_of() { if [ "$1" = kjv ]; then echo licences; else echo bible-start; fi; }
pattern='-?[0-9]+(?:\.[0-9]+)?'
evaluations_of() {
  local entries=""
  entries+="{name: essays, kind: text, file: runs/data/essays.txt, limit: $windows}, "
  entries+="{name: other, kind: text, file: runs/data/$(other_of "$1").txt, limit: $windows}, "
  [ "$1" != gsm ] || entries+="{name: exact, kind: exact, file: runs/data/gsm/test.jsonl, limit: $limit, batch: 25, \
tokens: 192, pattern: '$pattern'}"
  echo "eval=[${entries%, }]"
}
windows=$(((limit + 11) / 12))

train() {  # train DATA NAME STEPS ARGUMENT...
  local data=$1 name=$2 length=$3; shift 3
  local own=()
  [ "$data" != kjv ] || own=(--set data.train=runs/data/kjv.txt --set 'data.validation=""' --set data.validation_fraction=0.02)
  rm -rf "${folder:?}/$name"
  OMP_NUM_THREADS=1 "$muonp" train configs/finetune.yaml --set "run.dir=$folder" --set "run.name=$name" \
    --set "run.steps=$length" --set "model.from=$model" --set "data.tokenizer=$model" --set parallel.threads=1 \
    --set "parallel.compute=$compute" --set log.peak=false --set log.every=1000 --set log.validation_batches=8 \
    "${own[@]}" "$@" >"$folder/$name.log" 2>&1 ||
    { tail -n 20 "$folder/$name.log" >&2; exit 1; }
}
run_one() {  # run_one DATA ARM LR SEED sweep|best
  local data=$1 arm=$2 lr=$3 seed=$4 kind=$5
  local name=$data-$arm-lr-$lr-$kind-$seed setting arguments=()
  [ ! -e "$folder/$name.complete" ] || return 0
  while IFS= read -r setting; do arguments+=(--set "$setting"); done < <(settings_of "$arm" "$lr")
  [ "$kind" != best ] || arguments+=(--set "log.validate_every=$(((steps + 3) / 4))" --set "$(evaluations_of "$data")")
  train "$data" "$name" "$steps" --set "run.seed=$seed" --set checkpoint.at_end=false "${arguments[@]}"
  # A run that was asked to stop ends with status 0, too.
  grep -q "^step $steps/$steps " "$folder/$name.log" || { echo "muonp: error: $name was stopped; start the study again" >&2; exit 1; }
  touch "$folder/$name.complete"
  echo "done: $name"
}
# The same of the model as it came: <DATA>-before.json, one answer of `muonp eval` after the other.
before() {
  local data=$1 run=$folder/$1-before tasks
  local measure=("$muonp" eval "$run" --json --compute "$compute")
  [ ! -e "$run.json" ] || return 0
  train "$data" "$data-before" 0
  tasks=(--text runs/data/essays.txt --text "runs/data/$(other_of "$data").txt" --limit "$windows")
  "${measure[@]}" --batches 8 >"$run.partial"
  "${measure[@]}" "${tasks[@]}" >>"$run.partial"
  [ "$data" != gsm ] || "${measure[@]}" --exact runs/data/gsm/test.jsonl --limit "$limit" --batch 25 --tokens 192 \
    --pattern "$pattern" >>"$run.partial"
  rm -rf "${run:?}/checkpoints"
  mv "$run.partial" "$run.json"
}
export -f train run_one settings_of evaluations_of other_of
export muonp pattern steps model limit windows folder compute
in_parallel() {  # a line of standard input is a run; the first alone: it encodes what the others share
  local first
  IFS= read -r first || return 0
  bash -c "set -euo pipefail; run_one $first"
  xargs -d '\n' -P 2 -I{} bash -c 'set -euo pipefail; run_one {}'
}

arms=(adamw p-0 p-1-4 p-1-3 p-1-2 lora-adamw lora-p-1-3)
rates_of() {  # more where the best of the first four was the largest
  local more=()
  case $1 in p-0) more=(3e-3) ;; lora-adamw) more=(1e-2) ;; lora-p-1-3) more=(1e-2 3e-2) ;; esac
  case $1 in lora-*) echo 1e-4 3e-4 1e-3 3e-3 "${more[@]}" ;; *) echo 3e-5 1e-4 3e-4 1e-3 "${more[@]}" ;; esac
}
table() { python3 launch/scripts/finetuning_table.py "$folder" "$steps" "$@"; }
for data in "$@"; do
  before "$data"
  for arm in "${arms[@]}"; do for lr in $(rates_of "$arm"); do echo "$data $arm $lr 1 sweep"; done; done | in_parallel
  for arm in "${arms[@]}"; do
    lr=$(table best "$data" "$arm")
    printf '%s\n' "$data $arm $lr 1 best" "$data $arm $lr 2 best"
  done | in_parallel
done
table report | tee "$folder.md"
for data in "$@"; do
  best=("$folder/$data"-*-best-1)
  "$muonp" compare "${best[@]}" --svg "$folder-$data.svg" --title "Held-out loss while finetuning on $data" >/dev/null
done
