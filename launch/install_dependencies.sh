#!/usr/bin/env bash
# Installs the Debian packages that muonp is built from (docs/dependencies.md says why each). Needs root or sudo, and
# does nothing when all are there.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache git
  libopenmpi-dev openmpi-bin libdnnl-dev libopenblas-openmp-dev liblapacke-dev
  libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libfmt-dev libxxhash-dev libsentencepiece-dev libpcre2-dev libutf8proc-dev
  libgtest-dev libgmock-dev libbenchmark-dev libboost-context-dev
)
packages+=("$@")

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "muonp: error: these packages are missing and neither root nor sudo is at hand: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "Installing: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
# The package lists of a fresh machine are empty or old.
{ "${sudo[@]}" apt-get update >/dev/null 2>&1 && install; } || install || {
  tail -n 20 "$log" >&2
  echo "muonp: error: apt-get could not install: ${missing[*]}" >&2
  exit 1
}
