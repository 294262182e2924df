#!/usr/bin/env bash
# Does TensorBoard read from `muonp export-metrics --tensorboard` what metrics.jsonl says? See README.md.
#
#   tests/peers/tensorboard.sh runs/quickstart-p-1-2
#
# Needs build/release and PyPI.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: tests/peers/tensorboard.sh RUN..." >&2; exit 2; }
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=$("$here/../../launch/scripts/python_environment.sh" tensorboard tensorboard==2.21.0)
events=$(mktemp -d)
trap 'rm -rf "$events"' EXIT
for run in "$@"; do
  "${MUONP:-$here/../../build/release/launch/muonp}" export-metrics "$run" --tensorboard "$events/run"
  "$python" "$here/event_values.py" "$run/metrics.jsonl" "$events/run"
done
