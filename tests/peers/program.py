"""Runs muonp for the comparisons of this folder: one method for each command, files in a scratch folder."""
import json
import pathlib
import shutil
import subprocess
import sys

import numpy

MPIRUN = pathlib.Path(__file__).parent.parent.parent / "launch" / "mpirun.sh"


class Muonp:
    """Of `ranks`, which every method has: 1 runs the program itself, more run it under mpirun."""

    def __init__(self, program, scratch):
        self.program, self.scratch = pathlib.Path(program).resolve(), pathlib.Path(scratch)

    def run(self, *arguments, ranks=1):
        launcher = [] if ranks == 1 else [MPIRUN, "-np", ranks]
        command = [str(word) for word in (*launcher, self.program, *arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def file(self, name, content):
        path = self.scratch / name
        path.write_text(content, encoding="utf-8")
        return path

    def token_file(self, ids):
        """In llm.c's format of 16 bits: 256 integers of which three count, then the ids."""
        head = numpy.zeros(256, dtype="<i4")
        head[:3] = 20240520, 1, len(ids)
        path = self.scratch / "ids.bin"
        path.write_bytes(head.tobytes() + numpy.array(ids, dtype="<u2").tobytes())
        return path

    def text_data(self, text):
        """What a small run trains on."""
        return {"train": str(self.file("train.txt", text)), "validation_fraction": 0, "sequence": 32, "batch": 8}

    def train(self, name, settings, ranks=1, stage=0):
        """A run called `name`, which goes on if it is there; settings as in its YAML file, by section."""
        sections = {**settings, "run": {"name": name, "dir": str(self.scratch / "runs"), **settings["run"]},
                    "parallel": {"zero": stage}, "log": {"peak": False}}
        self.run("train", self.file("run.yaml", json.dumps(sections)), ranks=ranks)
        return self.scratch / "runs" / name

    def losses(self, run):
        return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]

    def export(self, run, *options):
        folder = self.scratch / "exported"
        shutil.rmtree(folder, ignore_errors=True)
        self.run("export", run, folder, *options)
        return folder

    def logits(self, model, text, ranks=1):
        out = self.scratch / "logits.npy"
        self.run("eval", model, "--text", self.file("text.txt", text), "--logits", out, ranks=ranks)
        return numpy.load(out)

    def loss(self, model, text, window, stride, ranks=1):
        """The mean loss, and the number of tokens that it is of. With windows in batches of one, ranks share them."""
        said = self.run("eval", model, "--text", self.file("text.txt", text), "--window", window, "--stride", stride, "--batch", 1,
                        "--json", ranks=ranks)
        numbers = json.loads(said)
        return numbers["loss"], numbers["tokens"]

    def ids(self, folder, text):
        out = self.scratch / "ids.npy"
        self.run("tokenize", "--tokenizer", folder, "--in", self.file("text.txt", text), "--ids", out)
        return numpy.load(out).tolist()

    def greedy(self, model, prompts, tokens, *options, ranks=1):
        """The new ids of each prompt. Prompts are continued together, and ranks share them."""
        said = self.run("generate", model, "--prompts", self.file("prompts.txt", "\n".join(prompts) + "\n"), "--tokens", tokens,
                        "--temperature", 0, "--ids", *options, ranks=ranks)
        return [[int(i) for i in line.split()] for line in said.splitlines()]
