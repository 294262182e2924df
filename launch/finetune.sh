#!/usr/bin/env bash
# From a fresh Debian machine to a finetuned language model: installs what is needed, builds, fetches SmolLM2-135M-Instruct
# and 2,000 word problems, finetunes on 2 MPI ranks for some steps with Muon^p (p = 1/3) and with AdamW, and prints loss and
# exact match on held-out problems before and after, and two answers.
#
#   ./launch/finetune.sh            8 steps each: within 20 minutes on two cores
#   ./launch/finetune.sh 200        as many steps as said
#
# Needs root or sudo for Debian's packages, and PyPI. Everything goes to build/release, runs/ and ~/.cache/muonp; run it again
# to go on where it was stopped. Remove runs/finetune-* to start over.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0; fi
steps=${1:-8}
[[ $steps =~ ^[1-9][0-9]{0,6}$ ]] || { echo "muonp: error: '$steps' is no number of steps" >&2; exit 1; }

echo "== Packages and build"
./launch/install_dependencies.sh python3-venv
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
mkdir -p build runs/data
{ cmake --preset release "${launcher[@]}" -DMUONP_BUILD_TESTS=OFF \
  && cmake --build --preset release --parallel "$(nproc)"; } >build/finetune.log 2>&1 || { tail -n 40 build/finetune.log; exit 1; }
muonp=$PWD/build/release/launch/muonp

echo "== Model and problems"
data=runs/data/gsm
./launch/scripts/fetch_smollm2.sh runs/models/SmolLM2-135M-Instruct
./launch/scripts/write_tasks.sh "$data"

# train NAME STEPS SETTING...: goes on from the last checkpoint of a run that was stopped.
train() {
  local name=finetune-$1 steps=$2; shift 2
  echo "== Finetuning: $name"
  ./launch/mpirun.sh -np 2 "$muonp" train configs/finetune.yaml --set "run.name=$name" --set "run.steps=$steps" "$@"
}
# evaluate NAME STEPS: loss and exact match on held-out problems, into the run's folder. An answer is its last number.
evaluate() {
  local run=runs/finetune-$1 out=runs/finetune-$1/held-out-$2.json
  [ -s "$out" ] && return
  ./launch/mpirun.sh -np 2 "$muonp" eval "$run" --json --data "$data/validation.jsonl" --batches 10 \
    --exact "$data/test.jsonl" --limit 40 --batch 20 --tokens 192 --pattern '-?[0-9]+(?:\.[0-9]+)?' >"$out.partial"
  mv "$out.partial" "$out"
}
train before 0
evaluate before 0
train p-1-3 "$steps"
evaluate p-1-3 "$steps"
train adamw "$steps" --set optimizer.matrices.rule=adamw --set optimizer.matrices.lr=5e-5
evaluate adamw "$steps"

# row TITLE NAME STEPS
row() {
  awk -v title="$1" -F '[:,]' '/^ *"loss":/ { loss = $2 } /^ *"exact":/ { exact = $2 }
    END { printf "%-22s %8.4f %10.1f %%\n", title, loss, 100 * exact }' "runs/finetune-$2/held-out-$3.json"
}
echo "== Results: held-out problems, $steps steps"
printf '%-22s %8s %12s\n' "" loss "exact match"
row before before 0
row "Muon^p, p = 1/3" p-1-3 "$steps"
row AdamW adamw "$steps"
echo
echo "Two answers of the model finetuned with p = 1/3:"
for question in "Anna has 12 apples. She gives 5 of them to Ben and buys 8 more. How many apples does Anna have now?" \
  "A book costs 7 dollars and a pen costs 2 dollars. How much do 3 books and 4 pens cost together?"; do
  echo
  "$muonp" generate runs/finetune-p-1-3 --temperature 0 --tokens 160 \
    --prompt "Question: $question Give the result as your final answer. Do not include units."$'\n'"Answer: "
  echo
done
echo
echo "Loss curves: muonp compare runs/finetune-p-1-3 runs/finetune-adamw --metric loss --svg runs/finetune.svg"
echo "A folder for transformers: muonp export runs/finetune-p-1-3 runs/models/SmolLM2-135M-word-problems"
