#!/usr/bin/env python3
"""An earlier build of muonp beside this one: the same losses, bit for bit, and no slower.

  tests/peers/earlier_program.py EARLIER [LATER] [--part losses|time|passes]... [--pairs 7] [--steps 50]

EARLIER and LATER (build/release/launch/muonp) are programs; what they share is configs/quickstart.yaml and its text.
losses: the first steps of the quickstart at np 1, 2 and 4, ZeRO stages 0 to 3, with and without overlap, at stages 0 and 1
        (others refuse it) with and without compression: every training loss and the validation loss after the last step. Ends
        with status 1 where one differs.
time:   a training step, a spectral step, and a whole run of one step (which is start-up), in turns; medians and quartiles,
        and the median of the pairs' ratios. Wants a machine that does nothing else.
passes: a forward and backward pass of GPT-2 124M, in float32 and bfloat16, at the sizes of the speed table
        (docs/finetuning.md); both programs at once, one thread and one processor each, which they change from pair to pair:
        a machine whose rate comes and goes is the same for both. Only where it is asked for.
Python's own library is enough.
"""
import argparse
import concurrent.futures
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
GPT2 = ROOT / "configs" / "bench-gpt2-124m.yaml"
RANKS, OVERLAP = (1, 2, 4), ("false", "true")
COMPRESSION = {"exact": [], "int8": ["compression.to_owner=int8", "compression.to_workers=int8"]}
STAGES = {"exact": (0, 1, 2, 3), "int8": (0, 1)}


def run(program, *arguments, ranks=1, processor=None):
    launcher = [] if ranks == 1 else [ROOT / "launch" / "mpirun.sh", "-np", ranks]
    if processor is not None:
        launcher = ["taskset", "-c", processor]
    command = [str(word) for word in (*launcher, program, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def train(program, folder, steps, settings, ranks=1):
    """The quickstart's first steps: its rate falls at the end of the run, which is left out. Returns the run's folder."""
    settings = [f"run.dir={folder}", "run.name=run", f"run.steps={steps}", "schedule.decay_fraction=0", "parallel.threads=1",
                "log.every=1", f"log.validate_every={steps}", *settings]
    run(program, "train", QUICKSTART, *itertools.chain(*(("--set", setting) for setting in settings)), ranks=ranks)
    return pathlib.Path(folder) / "run"


def losses_of(program, steps, ranks, stage, overlap, compression):
    """Numbers as the run wrote them: in as many digits as tell one float from the next."""
    settings = [f"parallel.zero={stage}", f"parallel.overlap={overlap}", "log.peak=false", *COMPRESSION[compression]]
    with tempfile.TemporaryDirectory() as folder:
        lines = (train(program, folder, steps, settings, ranks) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_float=str) for line in lines]
    losses = [record["loss"] for record in records if "loss" in record]
    return losses + [record["val_loss"] for record in records if "val_loss" in record]


def compare_losses(programs, steps):
    cases = [(ranks, stage, overlap, compression) for ranks in RANKS for compression, stages in STAGES.items()
             for stage in stages for overlap in OVERLAP]

    def both(case):
        return [losses_of(program, steps, *case) for program in programs]

    equal = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, (case, (earlier, later)) in enumerate(zip(cases, pool.map(both, cases)), 1):
            same = len(earlier) > steps and earlier == later
            equal += same
            ranks, stage, overlap, compression = case
            first = next((i for i, (a, b) in enumerate(zip(earlier, later)) if a != b), None)
            told = "same" if same else (f"{len(earlier)} and {len(later)} numbers" if first is None else
                                        f"DIFFER at number {first + 1}: {earlier[first]} {later[first]}")
            print(f"[{number}/{len(cases)}] np {ranks}, stage {stage}, overlap {overlap:<5}, {compression:<5}: "
                  f"{len(earlier)} losses, {told}, the last {later[-1]}", flush=True)
    print(f"{equal} of {len(cases)} settings have the same {steps} training losses and validation loss.")
    return equal == len(cases)


def said_by(program, *arguments, processor=None):
    said = run(program, *arguments, "--json", processor=processor)
    return json.loads(said[said.index("{"):])  # a line about a text that is encoded may stand before it


def milliseconds_of_step(program):
    return said_by(program, "bench", "step", QUICKSTART, "--repeats", 20, "--set", "parallel.threads=1")["seconds_median"] * 1e3


def milliseconds_of_spectral(program):
    return said_by(program, "bench", "spectral", "--rows", 1024, "--cols", 1024, "--p", "1/2", "--dtype", "float32",
                   "--threads", 1, "--no-errors")["seconds_median"] * 1e3


def milliseconds_of_run(ranks):
    def measure(program):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            train(program, folder, 1, ["schedule.warmup=0", "log.validate_every=0"], ranks)
            return (time.perf_counter() - start) * 1e3
    return measure


def table(title, seen):
    print(f"| milliseconds, {title} | earlier: median (quartiles) | this one | ratio, median of pairs |\n|---|---|---|---|")
    for name, rows in seen.items():
        cells = []
        for column in zip(*rows):
            low, middle, high = statistics.quantiles(column, n=4, method="inclusive")
            cells.append(f"{middle:.1f} ({low:.1f} to {high:.1f})")
        print(f"| {name} | {cells[0]} | {cells[1]} | {statistics.median(b / a for a, b in rows):.3f} |")


def compare_time(programs, pairs):
    what = {"bench step, np 1": milliseconds_of_step, "bench spectral, 1024 x 1024": milliseconds_of_spectral,
            "train, one step, np 1": milliseconds_of_run(1), "train, one step, np 2": milliseconds_of_run(2)}
    seen = {name: [] for name in what}
    for number in range(pairs):
        for name, measure in what.items():
            order = programs if number % 2 == 0 else programs[::-1]
            pair = [measure(program) for program in order]
            seen[name].append(pair if number % 2 == 0 else pair[::-1])
        print(f"pair {number + 1} of {pairs}", file=sys.stderr, flush=True)
    table(f"{pairs} pairs in turns", seen)


def milliseconds_of_passes(program, processor, batch, length, dtype):
    settings = [f"data.batch={batch}", f"data.sequence={length}", f"parallel.compute={dtype}", "optimizer.matrices.rule=sgd",
                "parallel.threads=1"]
    said = said_by(program, "bench", "step", GPT2, "--repeats", 5, *itertools.chain(*(("--set", s) for s in settings)),
                   processor=processor)
    return (said["forward_seconds"] + said["backward_seconds"]) * 1e3


def compare_passes(programs, pairs):
    cases = [(batch, length, dtype) for dtype in ("float32", "bfloat16") for batch, length in ((4, 64), (1, 512))]
    seen = {f"GPT-2 124M, {batch} x {length}, {dtype}": [] for batch, length, dtype in cases}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number in range(pairs):
            for name, case in zip(seen, cases):
                processors = (number % 2, 1 - number % 2)
                seen[name].append(list(pool.map(lambda p, on: milliseconds_of_passes(p, on, *case), programs, processors)))
            print(f"pair {number + 1} of {pairs}", file=sys.stderr, flush=True)
    table(f"{pairs} pairs, both at once", seen)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=pathlib.Path)
    parser.add_argument("later", type=pathlib.Path, nargs="?", default=ROOT / "build/release/launch/muonp")
    parser.add_argument("--part", action="append", choices=("losses", "time", "passes"))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=50)
    asked = parser.parse_args()
    programs = [asked.earlier.resolve(), asked.later.resolve()]
    for program in programs:
        if not program.is_file():
            sys.exit(f"muonp: error: {program}: no such program; build it first (cmake --build --preset release)")
    for needed in ("kjv.txt", "kjv-1024.model"):
        if not (ROOT / "runs" / "data" / needed).is_file():
            sys.exit(f"muonp: error: runs/data/{needed} is missing; launch/quickstart.sh makes it")
    parts = asked.part or ["losses", "time"]
    same = "losses" not in parts or compare_losses(programs, asked.steps)
    if "time" in parts:
        compare_time(programs, asked.pairs)
    if "passes" in parts:
        compare_passes(programs, asked.pairs)
    sys.exit(not same)


if __name__ == "__main__":
    main()
