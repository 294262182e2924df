#!/usr/bin/env bash
# A folder that runs where muonp's Debian packages are not: the program of a build, the libraries it needs, Open MPI, the
# configurations, and the licences of all that is copied. It may be moved anywhere, and needs no installation there.
#
#   launch/bundle.sh build/cuda /tmp/muonp            # or build/release, for CPUs; tar czf muonp.tar.gz -C /tmp muonp
#   /tmp/muonp/muonp train config.yaml                # on the other machine
#   /tmp/muonp/mpirun -np 2 /tmp/muonp/muonp train config.yaml
#
#   --with PROGRAM   also this program of the build, under bin/ (repeatable)
#
# The other machine has to have x86-64 Linux with glibc 2.36 and libstdc++ of GCC 12 or newer (Debian 12, Ubuntu 24.04), and
# for a GPU the driver and CUDA 13's libcudart and libcublas, in CUDA_HOME, /usr/local/cuda or LD_LIBRARY_PATH; NCCL and
# cuDNN are used where they are. On several hosts the folder has to lie at the same place (docs/running.md).
set -euo pipefail
fail() { echo "muonp: error: bundle.sh: $1" >&2; exit 1; }

with=() arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --with) with+=("${2:?--with PROGRAM}"); shift 2 ;;
    -*) fail "unknown option '$1'; valid are --with and --help" ;;
    *) arguments+=("$1"); shift ;;
  esac
done
[ ${#arguments[@]} -eq 2 ] || fail "usage: launch/bundle.sh BUILD FOLDER, for instance build/release /tmp/muonp"
source=$(cd "$(dirname "$0")/.." && pwd)
build=${arguments[0]} folder=${arguments[1]}
[ -x "$build/launch/muonp" ] || fail "$build/launch/muonp: no such program; build it first"
[ ! -e "$folder" ] || fail "$folder: exists already"
mpi=$(command -v mpirun) || fail "mpirun is not installed (launch/install_dependencies.sh)"
plugins=$(ompi_info --path pkglibdir --parsable | sed 's/^path:pkglibdir://')
# Beside its final place until it is whole.
made=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$made"' EXIT
mkdir "$made"/{bin,lib,ompi,licences} "$made"/ompi/{bin,lib,share,etc,pmix}
mkdir "$made/ompi/lib/openmpi3"

for program in launch/muonp "${with[@]}"; do
  cp "$build/$program" "$made/bin/" && strip "$made/bin/$(basename "$program")"
done
cp -L "$mpi" "$(dirname "$mpi")/orted" "$made/ompi/bin/"
for plugin in "$plugins"/*.so; do
  case $(basename "$plugin") in  # those of networks and launchers that need libraries of their own
    *ucx* | *ofi* | *psm* | *openib* | *memheap* | *spml* | *sshmem* | *scoll* | *atomic* | *romio* | *flux* | *jsm*) ;;
    *slurm* | *gridengine* | *monitoring*) ;;
    *) cp "$plugin" "$made/ompi/lib/openmpi3/" ;;
  esac
done
cp -aL "$(ompi_info --path pkgdatadir --parsable | sed 's/^path:pkgdatadir://')" "$made/ompi/share/openmpi"
cp -aL "$(ompi_info --path sysconfdir --parsable | sed 's/^path:sysconfdir://')" "$made/ompi/etc/openmpi"
pmix=$(dirname "$(ldconfig -p | awk '/libpmix\.so\.2 /{print $NF; exit}')")
pmix=$(dirname "$(readlink -f "$pmix/libpmix.so.2")")
cp -aL "$pmix/pmix" "$pmix/../share" "$made/ompi/pmix/" 2>/dev/null || cp -aL "$pmix/pmix" "$made/ompi/pmix/"

# Of the system there: glibc and GCC's libraries, the driver's, CUDA's. OpenBLAS is loaded by its name, as the program says.
leave='/(ld-linux[^/]*|libc|libm|libdl|libpthread|librt|libutil|libresolv|libnss[^/]*|libstdc\+\+|libgcc_s|libcuda|libcudart'
leave+='|libcublas[^/]*|libnccl|libnv[^/]*)\.so'
openblas=$(strings "$made/bin/muonp" | grep -E '^/.*/libopenblas[^/]*\.so[.0-9]*$' | sort -u) ||
  fail "$build/launch/muonp names no libopenblas"
needed() { ldd "$@" 2>/dev/null | awk '/=> \//{print $3}' | sort -u | grep -vE "$leave" || true; }
mapfile -t libraries < <({ needed "$made"/bin/* "$made"/ompi/bin/* "$made"/ompi/lib/openmpi3/*.so "$made"/ompi/pmix/pmix/*.so
  echo "$openblas"; needed "$openblas"; } | sort -u)
for library in "${libraries[@]}"; do cp -L "$library" "$made/lib/"; done

# Licences: of each Debian package that something was copied from.
cp "$source/LICENSE" "$made/licences/muonp.txt"
for file in "${libraries[@]}" "$mpi" "$plugins"/mca_btl_self.so "$pmix/libpmix.so.2"; do
  for name in "$file" "/usr$file" "$(readlink -f "$file")"; do
    package=$(dpkg-query -S "$name" 2>/dev/null | head -1 | cut -d: -f1) && [ -n "$package" ] && break
  done
  [ -n "${package:-}" ] || fail "$file belongs to no Debian package, so that its licence is not known"
  cp -L "/usr/share/doc/$package/copyright" "$made/licences/$package.txt"
done

cp -r "$source/configs" "$made/"
cp "$source/launch/mpirun.sh" "$made/ompi/bin/mpirun.sh"
cat >"$made/environment.sh" <<'END'
# Sourced by the programs beside it, with their folder in `here`: where the libraries and Open MPI's parts are.
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:${CUDA_HOME:-/usr/local/cuda}/lib64"
export PATH="$here/ompi/bin:$PATH" OPAL_PREFIX="$here/ompi" OPAL_BINDIR="$here/ompi/bin" OPAL_LIBDIR="$here/ompi/lib" \
  OPAL_PKGLIBDIR="$here/ompi/lib/openmpi3" OPAL_PKGDATADIR="$here/ompi/share/openmpi" \
  OPAL_SYSCONFDIR="$here/ompi/etc/openmpi" \
  PMIX_INSTALL_PREFIX="$here/ompi/pmix" PMIX_PKGLIBDIR="$here/ompi/pmix/pmix" PMIX_DATADIR="$here/ompi/pmix/share" \
  OMPI_MCA_orte_launch_agent="$here/orted"
END
wrapper() { # wrapper NAME COMMAND
  cat >"$made/$1" <<END
#!/usr/bin/env bash
here=\$(cd "\$(dirname "\$(readlink -f "\${BASH_SOURCE[0]}")")" && pwd)
. "\$here/environment.sh"
exec "\$here/$2" "\$@"
END
  chmod +x "$made/$1"
}
wrapper muonp bin/muonp
wrapper mpirun ompi/bin/mpirun.sh
wrapper orted ompi/bin/orted

chmod 755 "$made"
mv "$made" "$folder"
trap - EXIT
echo "$folder: $(du -sm "$folder" | cut -f1) MiB, ${#libraries[@]} libraries; in it muonp is the program, and mpirun starts ranks"
