#!/usr/bin/env bash
# From a fresh Debian machine to three trained models: installs what is needed, builds, trains a small GPT on 2 MPI ranks
# with Muon^p (p = 1/2), Muon (p = 0) and AdamW, prints their validation losses and a sample, and draws the loss curves.
#
#   ./launch/quickstart.sh              on the King James Bible
#   ./launch/quickstart.sh my-text.txt  on a text of your own (a file, or a folder of files)
#
# Needs root or sudo for the packages. Everything goes to build/release and runs/; run it again to start over.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0; fi
text=${1:-}
if [ -n "$text" ] && [ ! -e "$text" ]; then echo "muonp: error: $text: no such file or folder" >&2; exit 1; fi

echo "== Packages and build"
./launch/install_dependencies.sh
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
mkdir -p build runs/data
{ cmake --preset release "${launcher[@]}" -DMUONP_BUILD_TESTS=OFF && cmake --build --preset release --parallel "$(nproc)"; } \
  >build/quickstart.log 2>&1 || { tail -n 40 build/quickstart.log; exit 1; }
muonp=$PWD/build/release/launch/muonp

echo "== Text and tokenizer"
model=runs/data/kjv-1024.model
settings=()
if [ -n "$text" ]; then
  model=runs/data/quickstart-text.model
  settings=(--set "data.train='${text//\'/\'\'}'" --set "data.tokenizer=$model")  # quoted: any name is a name
  rm -f "$model"
else
  text=runs/data/kjv.txt
  ./launch/fetch_kjv.sh "$text"
fi
[ -s "$model" ] || "$muonp" tokenize --in "$text" --vocab 1024 --out "$model"

# train NAME SETTING...: the configuration as it is but for the settings.
train() {
  local name=$1; shift
  rm -rf "runs/$name"
  echo "== Training $name"
  ./launch/mpirun.sh -np 2 "$muonp" train configs/quickstart.yaml --set "run.name=$name" "${settings[@]}" "$@"
}
# Each at the best learning rate of docs/learning.md.
train quickstart-p-1-2
train quickstart-muon --set optimizer.matrices.p=0 --set optimizer.matrices.lr=5e-3
train quickstart-adamw --set optimizer.matrices.rule=adamw --set optimizer.matrices.lr=1.25e-4

echo "== Results"
"$muonp" compare runs/quickstart-p-1-2 runs/quickstart-muon runs/quickstart-adamw --svg runs/quickstart.svg
echo
echo "A sample of the model trained with Muon^p, p = 1/2:"
"$muonp" generate runs/quickstart-p-1-2 --tokens 120
echo
echo "Loss curves: runs/quickstart.svg    Runs: runs/quickstart-*    Go on: muonp train configs/quickstart.yaml --set run.steps=800"
