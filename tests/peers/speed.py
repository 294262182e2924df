"""The speed table. Called by speed.sh; one measurement of each contender in turn, REPEATS times, and then their medians.

    python speed.py MUONP REPEATS [train|generate|encode]...
"""
import glob
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
FOLDER = "runs/models/SmolLM2-135M-Instruct"
TEXT = "runs/data/kjv.txt"
THREADS = os.environ["OMP_NUM_THREADS"]
NATIVE_BFLOAT16 = any(flag in pathlib.Path("/proc/cpuinfo").read_text().split() for flag in ("avx512_bf16", "amx_bf16"))
CASES = [("gpt2-124m", 4, 64), ("gpt2-124m", 1, 512), ("smollm2-135m", 4, 128), ("smollm2-135m", 1, 512)]
NEW_TOKENS = 96


def tuned_environment():
    """Huge pages for PyTorch's tensors, and an allocator that keeps what was freed."""
    libraries = glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4")
    if not libraries:
        sys.exit("libtcmalloc_minimal.so.4 is missing; apt-get install libtcmalloc-minimal4")
    return {"LD_PRELOAD": libraries[0], "THP_MEM_ALLOC_ENABLE": "1", "TCMALLOC_RELEASE_RATE": "0",
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Worker:
    """PyTorch in a process of its own, which computes only when it is asked."""

    def __init__(self, *arguments, environment=None):
        self.process = subprocess.Popen([sys.executable, HERE / "torch_worker.py", *map(str, arguments)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})})
        self.answer("ready")

    def answer(self, expected=None):
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            sys.exit(f"PyTorch's process ended or said something else: {line!r}")
        return line

    def __call__(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def run(*arguments):
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def in_turns(title, contenders, repeats, unit):
    """Measures, and prints a row: the medians, and the first contender's over each of the others'."""
    rates = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, measure in contenders.items():
            rates[name].append(measure())
    middle = {name: statistics.median(values) for name, values in rates.items()}
    ours = next(iter(middle.values()))
    cells = [f"{name} {rate:.4g} {unit}" + ("" if rate == ours else f" ({ours / rate:.2f} x)") for name, rate in middle.items()]
    print(f"{title}: {'; '.join(cells)}", flush=True)


def bench_step(muonp, model, batch, time_, dtype):
    family = [] if model.startswith("gpt2") else ["--set", "model.family=llama"]
    settings = [*family, "--set", f"model.preset={model}", "--set", f"data.batch={batch}", "--set", f"data.sequence={time_}",
                "--set", f"parallel.compute={dtype}", "--set", "optimizer.matrices.rule=sgd", "--set", f"parallel.threads={THREADS}"]
    def measure():
        said = run(muonp, "bench", "step", "configs/bench-gpt2-124m.yaml", "--json", "--repeats", 3, *settings)
        return json.loads(said)["forward_backward_tokens_per_second"]
    return measure


def train(muonp, repeats):
    for dtype in ["float32"] + ["bfloat16"] * NATIVE_BFLOAT16:
        for model, batch, length in CASES:
            case = ("train", model, batch, length, dtype)
            workers = {"eager": Worker(*case, "eager"), "compiled": Worker(*case, "compiled"),
                       "compiled, huge pages, tcmalloc": Worker(*case, "compiled", environment=tuned_environment())}
            in_turns(f"{model}, {batch} x {length}, {dtype}, forward and backward",
                     {"muonp": bench_step(muonp, model, batch, length, dtype), **workers}, repeats, "tokens/s")
            for worker in workers.values():
                worker.close()


def generate_once(muonp, prompts, tokens):
    start = time.perf_counter()
    said = run(muonp, "generate", FOLDER, "--prompts", prompts, "--tokens", tokens, "--temperature", 0, "--batch", 8, "--ids",
               "--threads", THREADS)
    seconds = time.perf_counter() - start
    made = [len(line.split()) for line in said.strip().splitlines()]
    if any(n != tokens for n in made):
        sys.exit(f"muonp made {made} tokens for the prompts, not {tokens} each: a text ended early, and the rate would be another")
    return seconds


def generate(muonp, repeats):
    """Starting and reading the folder is taken out: the difference of a long and a short text."""
    short = 16
    with tempfile.TemporaryDirectory() as scratch:
        for batch in (1, 8):
            prompts = pathlib.Path(scratch) / "prompts.txt"
            prompts.write_text("In the beginning God created the heaven and the earth.\n" * batch)
            def measure():
                longer = generate_once(muonp, prompts, short + NEW_TOKENS)
                return batch * NEW_TOKENS / (longer - generate_once(muonp, prompts, short))
            worker = Worker("generate", FOLDER, batch, NEW_TOKENS)
            in_turns(f"generation, SmolLM2-135M, batch {batch}", {"muonp": measure, "transformers": worker}, repeats, "tokens/s")
            worker.close()


def encode(muonp, repeats):
    """One thread each. muonp's start and its reading of the tokenizer are taken out: the difference of a long and a short text."""
    import tokenizers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    theirs = tokenizers.Tokenizer.from_file(f"{FOLDER}/tokenizer.json")
    whole = pathlib.Path(TEXT).read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as scratch:
        texts = {}
        for name, copies in (("short", 1), ("long", 5)):
            texts[name] = pathlib.Path(scratch) / f"{name}.txt"
            texts[name].write_text(whole * copies, encoding="utf-8")
        def seconds(name):
            start = time.perf_counter()
            run("taskset", "-c", "0", muonp, "tokenize", "--tokenizer", FOLDER, "--in", texts[name], "--ids",
                f"{scratch}/ids.npy")
            return time.perf_counter() - start
        def ours():
            return 4 * len(whole.encode()) / 1e6 / (seconds("long") - seconds("short"))
        def of_tokenizers():
            start = time.perf_counter()
            for line in lines:
                theirs.encode(line, add_special_tokens=False)
            return len(whole.encode()) / 1e6 / (time.perf_counter() - start)
        in_turns("encoding, one thread, SmolLM2's tokenizer", {"muonp": ours, "tokenizers": of_tokenizers}, repeats, "MB/s")


def main():
    muonp, repeats, parts = sys.argv[1], int(sys.argv[2]), sys.argv[3:] or ["train", "generate", "encode"]
    print(f"{THREADS} threads, {repeats} repeats in turns, medians; (n x): muonp's rate over this one")
    for part in parts:
        {"train": train, "generate": generate, "encode": encode}[part](muonp, repeats)


main()
