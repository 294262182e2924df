#!/usr/bin/env bash
# Writes the King James Bible, one verse a line (4.1 MB, from the Debian package bible-kjv), to the file that is named.
#
#   launch/fetch_kjv.sh runs/data/kjv.txt
set -euo pipefail
out=${1:?usage: launch/fetch_kjv.sh FILE}
[ -s "$out" ] && exit 0
"$(dirname -- "$0")/install_dependencies.sh" bible-kjv
out=$(realpath -m -- "$out")  # a link stays a link
mkdir -p "$(dirname "$out")"
# Each line begins with its place ("Ge1:1 "), which is no text.
bible -f 'Gen1:1-Rev22:21' | sed -E 's/^[0-9]?[A-Za-z]+[0-9]+:[0-9]+ //' >"$out.partial"
lines=$(wc -l <"$out.partial")
[ "$lines" -eq 31102 ] || { echo "muonp: error: the program bible printed $lines verses, not 31102" >&2; exit 1; }
mv "$out.partial" "$out"
