#!/usr/bin/env bash
# A program built for GPUs, on a machine without one: ./tests/e2e/no_gpu.sh MUONP
set -euo pipefail
muonp=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "no_gpu.sh: $1" >&2; [ ! -s "$folder/out" ] || cat "$folder/out" >&2; exit 1; }

yes "In the beginning was the word, and the word was short." | head -c 4000 >"$folder/text.txt" || true
cat >"$folder/tiny.yaml" <<END
run: {name: tiny, dir: $folder/runs, steps: 2}
data: {train: $folder/text.txt, sequence: 16, batch: 2}
model: {layers: 1, heads: 2, width: 32, context: 16}
log: {peak: false}
END

# With its libraries in the file cache: they are hundreds of megabytes, and a first read is the disk's time.
milliseconds=100000
for _ in 1 2 3 4; do
  start=$(date +%s%N)
  "$muonp" --help >/dev/null
  took=$((($(date +%s%N) - start) / 1000000))
  [ "$took" -ge "$milliseconds" ] || milliseconds=$took
done
[ "$milliseconds" -lt 300 ] || fail "--help takes $milliseconds ms; less than 300 are wanted"

"$muonp" train "$folder/tiny.yaml" >"$folder/out" 2>&1 || fail "device: auto did not train on the CPU"
grep -q "device: auto takes the CPU: " "$folder/out" || fail "device: auto did not say why it takes the CPU"
if "$muonp" train "$folder/tiny.yaml" --set device=cuda >"$folder/out" 2>&1; then fail "device: cuda ran without a GPU"; fi
grep -q "error: device: cuda: " "$folder/out" || fail "device: cuda gave no clear message"
echo "no_gpu.sh: starts in $milliseconds ms; falls back and refuses as it should"
