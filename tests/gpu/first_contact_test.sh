#!/usr/bin/env bash
# tests/gpu/first_contact.sh on a machine without a GPU: bundles a build with tests, unpacks it elsewhere, and goes through the
# stages that need none, on the CPU: first_contact_test.sh BUILD [SECONDS]. Ends with 77 where python3 has no numpy.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "$1") seconds=${2:-240}
export PY=${PY:-python3}
"$PY" -c 'import numpy' 2>/dev/null || { echo "$PY has no numpy: first_contact.sh was not tried"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "first_contact_test.sh: $1" >&2; tail -n 40 "$folder/log" >&2; exit 1; }

"$here/first_contact.sh" bundle "$build" "$folder/gpu" >"$folder/log" 2>&1 || fail "no bundle"
! grep -q 'missing:' "$folder/log" || fail "the bundle has not all test programs"
[ -s "$folder/gpu/bundle.tar.xz" ] && [ -s "$folder/gpu/first_contact.sh" ] || fail "no bundle was written"

begin=$SECONDS
DRY=1 BUDGET=$seconds OUT=$folder/out OMP_NUM_THREADS=1 bash "$folder/gpu/first_contact.sh" "$folder/gpu" \
  >"$folder/log" 2>&1 || fail "the script ended with an error"
[ $((SECONDS - begin)) -le $((seconds + 15)) ] || fail "it took $((SECONDS - begin)) s of $seconds"
# One table, in which every stage that was run ended well, unless the time was up, and those that need no GPU were run.
table=$folder/out/table.txt
[ "$(grep -c '^== stages:' "$table")" -eq 1 ] || fail "no table, or several"
stages=$(grep '^== stages:' "$table")
for name in unpack smoke train attention spectral96 refused mpi2; do
  case $stages in
    *" $name=0("* | *" $name=no time("*) ;;
    *) fail "stage $name: $stages" ;;
  esac
done
for name in unpack smoke train; do [[ $stages == *" $name=0("* ]] || fail "stage $name did not end well: $stages"; done
grep -q 'losses beside the CPU' "$table" || fail "the table has no losses"
[ -s "$folder/out/summary.json" ] && [ -s "$folder/out/logs.tar.gz" ] || fail "no summary, or no logs"
"$PY" -c 'import json, sys; json.load(open(sys.argv[1]))' "$folder/out/summary.json" || fail "summary.json is no JSON"
echo "first_contact_test.sh: bundles, runs without a GPU and writes its table"
