#!/usr/bin/env bash
# Prints the interpreter that has what the scripts of this folder compare with.
set -euo pipefail
if [ -n "${MUONP_PEERS_PYTHON:-}" ]; then
  echo "$MUONP_PEERS_PYTHON"
else
  "$(dirname -- "$0")/../../launch/scripts/python_environment.sh" peers torch transformers tokenizers safetensors numpy peft
fi
