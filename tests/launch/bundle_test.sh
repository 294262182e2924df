#!/usr/bin/env bash
# What launch/bundle.sh makes of a build runs from another place where the system's libraries, Open MPI and this build are
# hidden, and trains there to the same losses: bundle_test.sh BUILD. Ends with 77, which ctest counts as skipped, where
# folders cannot be hidden (unshare).
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "$1")
unshare --map-root-user --mount true 2>/dev/null || { echo "unshare --mount is not allowed here"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "bundle_test.sh: $1" >&2; [ ! -s "$folder/out" ] || tail -n 20 "$folder/out" >&2; exit 1; }
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
unset LD_LIBRARY_PATH

"$source/launch/bundle.sh" "$build" "$folder/made" >"$folder/out"
if "$source/launch/bundle.sh" "$build" "$folder/made" >"$folder/out" 2>&1; then fail "an existing folder was written over"; fi
grep -q 'exists already' "$folder/out" || fail "an existing folder was not named"
if "$source/launch/bundle.sh" "$folder" "$folder/none" >"$folder/out" 2>&1; then fail "there is nothing to bundle"; fi
grep -q 'no such program; build it first' "$folder/out" || fail "a build without the program was not named"
if ls -d "$folder"/none* 2>/dev/null; then fail "a bundle was begun and left"; fi
mkdir "$folder/elsewhere" && mv "$folder/made" "$folder/elsewhere/muonp"
bundle=$folder/elsewhere/muonp

for package in muonp libdnnl2 libfmt9 libopenmpi3 libyaml-cpp0.7; do
  grep -qi 'license' "$bundle/licences/$package.txt" || fail "no licence of $package"
done

yes "In the beginning was the word, and the word was short." | head -c 4000 >"$folder/text.txt" || true
cat >"$folder/tiny.yaml" <<END
device: cpu
run: {dir: $folder/runs, steps: 3}
data: {train: $folder/text.txt, sequence: 16, batch: 4}
model: {layers: 1, heads: 2, width: 32, context: 16}
optimizer: {matrices: {method: svd}}
parallel: {threads: 1, zero: 2}
log: {peak: false}
END
losses() { sed -n 's/.*"loss": *\([^,}]*\).*/\1/p' "$folder/runs/$1/metrics.jsonl"; }
"$build/launch/muonp" train "$folder/tiny.yaml" --set run.name=here >"$folder/out" 2>&1 || fail "the build does not train"

# Of the system's libraries glibc, GCC's and bash's stay; CUDA's are nowhere near them.
hidden=$folder/hidden && mkdir "$hidden" "$folder/empty"
for name in libc libm libdl libpthread librt libutil libresolv libstdc++ libgcc_s libtinfo ld-linux-x86-64 libnss_files libnss_dns; do
  cp -L /lib/x86_64-linux-gnu/$name.so.* "$hidden/" 2>/dev/null || true
done
cat >"$folder/inside.sh" <<END
set -eu
for place in /usr/share/openmpi /etc/openmpi $build; do mount --bind $folder/empty \$place; done
mount --bind $hidden /usr/lib/x86_64-linux-gnu
exec "\$@"
END
hide() { unshare --map-root-user --mount bash "$folder/inside.sh" "$@" >"$folder/out" 2>&1; }
# So that it is seen: without the bundle's libraries, and outside it, there is nothing to run.
if hide "$bundle/bin/muonp" --version; then fail "the system's libraries are not hidden"; fi
grep -q 'error while loading shared libraries' "$folder/out" || fail "the system's libraries are not hidden"

hide "$bundle/muonp" --version || fail "the bundle does not start"
hide "$bundle/muonp" train "$folder/tiny.yaml" --set run.name=alone || fail "the bundle does not train"
hide "$bundle/mpirun" -np 2 "$bundle/muonp" train "$folder/tiny.yaml" --set run.name=two || fail "two ranks of the bundle do not train"
grep -q '2 ranks on 1 host' "$folder/out" || fail "two ranks did not find each other"
[ "$(losses here | wc -l)" -eq 3 ] && [ "$(losses here)" = "$(losses alone)" ] || fail "the bundle's losses are not the build's"
[ "$(losses two | wc -l)" -eq 3 ] || fail "two ranks did not end"
echo "bundle_test.sh: starts, trains and joins ranks where the system's libraries are hidden"
