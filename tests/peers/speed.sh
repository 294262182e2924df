#!/usr/bin/env bash
# The speed table: muonp beside PyTorch, transformers and tokenizers, in turns and with the same threads.
#
#   tests/peers/speed.sh [REPEATS] [PART...]     3 repeats; parts: train generate encode; all unless said otherwise
#
# Needs build/release, PyPI, runs/models/SmolLM2-135M-Instruct (launch/scripts/fetch_smollm2.sh), Debian's bible-kjv and
# libtcmalloc-minimal4 (installed where they are missing). THREADS is the number of threads, by default the cores'. Two compilations by PyTorch a
# model take minutes; the whole of it an hour on two cores.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/../.."
repeats=${1:-3}
[ $# -eq 0 ] || shift
[[ $repeats =~ ^[1-9][0-9]{0,3}$ ]] || { echo "usage: tests/peers/speed.sh [REPEATS] [PART...]" >&2; exit 2; }
./launch/install_dependencies.sh libtcmalloc-minimal4
./launch/fetch_kjv.sh runs/data/kjv.txt
./launch/scripts/fetch_smollm2.sh runs/models/SmolLM2-135M-Instruct
python=$(./tests/peers/environment.sh)
export OMP_NUM_THREADS=${THREADS:-$(nproc)}
exec "$python" tests/peers/speed.py "${MUONP:-build/release/launch/muonp}" "$repeats" "$@"
