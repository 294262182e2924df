"""Errors of the spectral power in a GPU's storages, for four spectra and for the momenta of runs, as docs/numerics.md has them.

    python3 launch/scripts/storage_errors.py build/cuda-host/launch/muonp RUN [RUN...]

MUONP is a program with CUDA, for a GPU or with the stand-in (cmake --preset cuda-host). RUN is a run's folder with a checkpoint
that one rank wrote. Of each kind of matrix at most three layers are taken: the first, the middle and the last. Needs numpy.
MUONP_STORAGE (float16) and MUONP_EPSILON (1e-2) choose others.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy

EXPONENTS = ["0", "1/4", "1/3", "1/2", "3/4"]
STORAGE, EPSILON = os.environ.get("MUONP_STORAGE", "float16"), os.environ.get("MUONP_EPSILON", "1e-2")


def of_spectrum(name, rows, cols):
    rng = numpy.random.default_rng(1)
    gaussian = rng.standard_normal((rows, cols))
    if name == "Gaussian":
        return gaussian
    u, _, vt = numpy.linalg.svd(gaussian, full_matrices=False)
    i = numpy.arange(cols)
    values = {"geometric to 1e-3": 1e-3 ** (i / (cols - 1)), "harmonic": 1 / (1 + i), "rank n/4": 1.0 * (i < cols // 4)}[name]
    return (u * values) @ vt


def momenta(run):
    """The momentum matrices of the newest checkpoint, by name."""
    newest = max(pathlib.Path(run).glob("checkpoints/step-????????"), default=None)
    if newest is None:
        sys.exit(f"muonp: error: {run} is no folder of a run with a checkpoint")
    files = list(newest.glob("*.safetensors"))
    if len(files) != 1:
        sys.exit(f"muonp: error: {newest} has {len(files)} files of state, where one rank writes one")
    data = files[0].read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    pieces = header.pop("__metadata__")
    found = {}
    for name, tensor in header.items():
        if not name.endswith("/momentum@0"):
            continue
        first, last = tensor["data_offsets"]
        values = numpy.frombuffer(data[begin + first:begin + last], dtype="<f4")
        found[name.split("/")[0]] = values.reshape(json.loads(pieces[name])["shape"])
    return found


def by_kind(matrices):
    """Lists of the matrices of some layers, by their name without the layer's number."""
    kinds = {}
    for name, matrix in matrices.items():
        layer = re.search(r"\.(\d+)\.", name)
        kinds.setdefault(re.sub(r".*\.\d+\.", "", name), []).append((int(layer[1]) if layer else 0, matrix))
    for kind, of_layers in kinds.items():
        of_layers.sort(key=lambda entry: entry[0])
        chosen = {0, len(of_layers) // 2, len(of_layers) - 1}
        kinds[kind] = [of_layers[i][1] for i in sorted(chosen)]
    return kinds


def errors(muonp, matrix, p, folder):
    numpy.save(folder / "g.npy", matrix.astype("<f4"))
    done = subprocess.run([muonp, "spectral", "--in", folder / "g.npy", "--out", folder / "z.npy", "--p", p, "--eps", EPSILON,
                           "--device", "cuda", "--dtype", STORAGE, "--check", "--json"],
                          check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.returncode)  # it has said why
    report = json.loads(done.stdout)
    return report["relative_error_max"], report["relative_error_frobenius"]


def row(muonp, title, matrices, folder):
    cells = []
    for p in EXPONENTS:
        worst, frobenius = numpy.max([errors(muonp, m, p, folder) for m in matrices], axis=0)
        cells.append(f"{100 * worst:.2f} / {100 * frobenius:.2f}")
    print(f"| {title}, {matrices[0].shape[0]}×{matrices[0].shape[1]} | {' | '.join(cells)} |", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    muonp, runs = sys.argv[1], {run: by_kind(momenta(run)) for run in sys.argv[2:]}
    if not os.access(muonp, os.X_OK):
        sys.exit(f"muonp: error: {muonp} is no program; a muonp that was built with CUDA or its stand-in is needed")
    print(f"{STORAGE}, epsilon {EPSILON}: worst error of a singular value's power from epsilon on / Frobenius error, %\n")
    print(f"| | {' | '.join(f'p = {p}' for p in EXPONENTS)} |\n|---|{'---|' * len(EXPONENTS)}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in ("Gaussian", "geometric to 1e-3", "harmonic", "rank n/4"):
            row(muonp, name, [of_spectrum(name, 512, 256)], folder)
        for run, kinds in runs.items():
            for kind, matrices in kinds.items():
                row(muonp, f"{pathlib.Path(run).name}, {kind}", matrices, folder)


main()
