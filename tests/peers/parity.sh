#!/usr/bin/env bash
# Hugging Face folders through muonp and through transformers and PEFT: the same numbers, texts and files? See README.md.
#
#   tests/peers/parity.sh runs/models/SmolLM2-135M-Instruct
#
# The first folder's tokenizer also serves a small random model of each family. Needs build/release and PyPI.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: tests/peers/parity.sh FOLDER..." >&2; exit 2; }
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=$("$here/environment.sh")
OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} exec "$python" "$here/parity.py" "${MUONP:-$here/../../build/release/launch/muonp}" "$@"
