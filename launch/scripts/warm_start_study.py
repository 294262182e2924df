#!/usr/bin/env python3
"""Would the last step's T be a first guess for this step's spectral power? (docs/numerics.md, "Warm start")

    warm_start_study.py CHECKPOINTS [--momentum 0.95] [--plain]

CHECKPOINTS is a folder of checkpoints of consecutive steps of one rank (checkpoint.every: 1) with a rule that keeps
`momentum` (ema, Nesterov). N of each step is what its owner takes, (1 + mu) M_t - mu M_(t-1). Everything is in float64
and by eigendecompositions, so that neither rounding nor a schedule is to blame: what is printed is the error that is
left when the warm recurrence has converged. numpy alone is needed.
"""
import argparse
import json
import pathlib
import struct

import numpy as np


def momenta(folder):
    """By parameter: M of each checkpoint, in the order of steps."""
    all_of = {}
    for checkpoint in sorted(p for p in pathlib.Path(folder).iterdir() if p.name.startswith("step-")):
        for path in checkpoint.glob("*.safetensors"):
            data = path.read_bytes()
            length = struct.unpack("<Q", data[:8])[0]
            header = json.loads(data[8 : 8 + length])
            shapes = header.pop("__metadata__")
            for name, entry in header.items():
                if "/momentum@" not in name:
                    continue
                begin, end = entry["data_offsets"]
                values = np.frombuffer(data[8 + length + begin : 8 + length + end], np.float32).astype(np.float64)
                matrix = values.reshape(json.loads(shapes[name])["shape"])
                all_of.setdefault(name.split("/")[0], []).append(matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T)
    return all_of


class Power:
    """Eigenpairs of A = N^T N / sigma_max^2 and powers of it, where singular values below eps are taken as eps."""

    def __init__(self, n, eps):
        self.n = n / np.linalg.norm(n, 2)
        squares, self.v = np.linalg.eigh(self.n.T @ self.n)
        self.sigma = np.sqrt(np.maximum(squares, 0))
        self.floor = np.maximum(self.sigma, eps)

    def of_a(self, exponent):
        return self.v * self.floor**exponent @ self.v.T

    def errors(self, z, p, eps):
        """Worst |u^T Z v / sigma^p - 1| over sigma >= eps, and the Frobenius error over the same directions."""
        keep = self.sigma >= eps
        v, sigma = self.v[:, keep], self.sigma[keep]
        got = (self.n @ v / sigma).T @ z @ v
        wanted = np.diag(sigma**p)
        worst = np.max(np.abs(np.diag(got) / sigma**p - 1))
        return worst, np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


def symmetric_power(b, exponent):
    squares, v = np.linalg.eigh((b + b.T) / 2)
    return v * np.maximum(squares, 1e-30) ** exponent @ v.T


def guesses(old, new, p):
    """Z by each way to use what the last step left."""
    s = (1 - p) / 2  # T = A^-s
    scale = np.linalg.norm(new.n) / np.linalg.norm(old.n)
    inverse_root, t = old.of_a(-1) / scale, old.of_a(-2 * s) / scale ** (2 * s)
    b = inverse_root @ (new.n.T @ new.n) @ inverse_root
    half = old.of_a(-s) / scale**s
    # Newton's step for A^-s, which needs the eigenvectors of the old A: what no product gives.
    values = (old.floor * scale) ** 2
    slopes = (values[:, None] ** -s - values[None, :] ** -s) / np.where(
        np.abs(values[:, None] - values[None, :]) > 1e-12 * values.max(), values[:, None] - values[None, :], np.inf
    )
    close = np.abs(values[:, None] - values[None, :]) <= 1e-12 * values.max()
    slopes = np.where(close, -s * values[:, None] ** (-s - 1), slopes)
    difference = old.v.T @ (new.n.T @ new.n) @ old.v - np.diag(values)
    return b, {
        "T as it was": new.n @ t,
        "recurrence from N S, N T": new.n @ t @ symmetric_power(b, -s),
        "T^1/2 B^-s T^1/2": new.n @ half @ symmetric_power(b, -s) @ half,
        "one Newton step, eigenvectors known": new.n @ old.v @ (np.diag(values**-s) + slopes * difference) @ old.v.T,
    }


def largest_parts(old, new, p, eps, tolerance):
    """By way: after how much of the step from the old N to the new one, by halves, it is within the tolerance."""
    first, found, part = Power(old, eps), {}, 1.0
    while part > 1e-5:
        moved = Power(old + part * (new - old), eps)
        ways = guesses(first, moved, p)[1]
        for way, z in ways.items():
            if way not in found and moved.errors(z, p, eps)[1] <= tolerance:
                found[way] = part
        if len(found) == len(ways):
            break
        part /= 2
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints")
    parser.add_argument("--momentum", type=float, default=0.95)
    parser.add_argument("--plain", action="store_true", help="without Nesterov: N is M itself")
    parser.add_argument("--most", type=int, default=16, help="steps of matrices that are looked at, evenly chosen")
    arguments = parser.parse_args()
    mu = arguments.momentum
    pairs = []
    for of in momenta(arguments.checkpoints).values():
        n = of[1:] if arguments.plain else [(1 + mu) * of[t] - mu * of[t - 1] for t in range(1, len(of))]
        pairs += list(zip(n[:-1], n[1:]))
    if not pairs:
        raise SystemExit(f"{arguments.checkpoints}: no two steps of a momentum; it needs three checkpoints or more")
    pairs = pairs[:: max(1, len(pairs) // arguments.most)]
    moved = [np.linalg.norm(b - a) / np.linalg.norm(b) for a, b in pairs]
    print(f"{len(pairs)} steps of matrices; |N - N_old| / |N|: median {np.median(moved):.3f}, least {min(moved):.3f}")
    for eps in (1e-2, 1e-3):
        for p in (0.0, 0.5, 0.75):
            intervals, errors = [], {}
            for old, new in pairs:
                first, second = Power(old, eps), Power(new, eps)
                b, found = guesses(first, second, p)
                eigenvalues = np.linalg.eigvalsh(b)
                intervals.append((eigenvalues[0], eigenvalues[-1]))
                for way, z in found.items():
                    errors.setdefault(way, []).append(second.errors(z, p, eps))
            intervals = np.array(intervals)
            passed = 100 * np.mean(np.max(np.abs(intervals - 1), axis=1) < 1)
            print(f"\neps {eps:g}, p {p:g}: eigenvalues of S A S (1 where the guess is right): median interval "
                  f"[{np.median(intervals[:, 0]):.2g}, {np.median(intervals[:, 1]):.3g}], |I - S A S| < 1 in {passed:.0f} %")
            parts = [largest_parts(old, new, p, eps, 0.01) for old, new in pairs[:: max(1, len(pairs) // 4)]]
            for way, values in errors.items():
                worst, frobenius = 100 * np.array(values).T
                part = np.median([of.get(way, 0.0) for of in parts])
                print(f"  {way:36} worst sigma^p, median {np.median(worst):8.3g} %   Frobenius, median "
                      f"{np.median(frobenius):8.3g} %, least {np.min(frobenius):8.3g} %   within 1 % after {part:.2g} "
                      f"of the step", flush=True)


if __name__ == "__main__":
    main()
