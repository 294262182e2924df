"""What the runs of finetuning_study.sh say. Called by it; needs Python's own library only.

    python finetuning_table.py FOLDER STEPS best DATA ARM       the learning rate with the lowest held-out loss
    python finetuning_table.py FOLDER STEPS report              the tables of docs/finetuning.md, as Markdown
    python finetuning_table.py FOLDER STEPS pack >FILE          what the complete runs said, a line for each
    python finetuning_table.py FOLDER STEPS unpack <FILE        into a folder in which the study goes on elsewhere
"""
import json
import pathlib
import statistics
import sys

ARMS = {"adamw": "AdamW", "p-0": "Muon, p = 0", "p-1-4": "p = 1/4", "p-1-3": "p = 1/3", "p-1-2": "p = 1/2",
        "lora-adamw": "LoRA, AdamW", "lora-p-1-3": "LoRA, p = 1/3"}


def lines(run):
    with open(run / "metrics.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def last(run, key):
    """The value that the run's last line with this key has; nothing where there is none."""
    found = [line[key] for line in lines(run) if key in line]
    return found[-1] if found else None


class Study:
    def __init__(self, folder, steps):
        self.folder, self.steps = pathlib.Path(folder), steps

    def runs(self, data, arm, kind):
        """Pairs of learning rate as it was written, and folder."""
        prefix = f"{data}-{arm}-lr-"
        found = []
        for mark in sorted(self.folder.glob(f"{prefix}*-{kind}-*.complete")):
            rate = mark.stem[len(prefix):].rsplit(f"-{kind}-", 1)[0]
            found.append((rate, mark.with_suffix("")))
        return found

    def sweep(self, data, arm):
        losses = {rate: last(run, "val_loss") for rate, run in self.runs(data, arm, "sweep")}
        # A loss that is not a number is written as null.
        return {rate: loss for rate, loss in losses.items() if loss is not None}

    def before(self, data):
        """What `muonp eval` said of the model as it came, under the keys that a run's metrics have."""
        text, answers = (self.folder / f"{data}-before.json").read_text(encoding="utf-8"), []
        while text.strip():
            answer, end = json.JSONDecoder().raw_decode(text.lstrip())
            text = text.lstrip()[end:]
            answers += answer.get("tasks", [answer])
        names = {"validation": "val_loss", "essays": "eval.essays.loss", "licences": "eval.other.loss",
                 "bible-start": "eval.other.loss", "test": "eval.exact.exact"}
        return {names[a["task"]]: a["exact"] if a["kind"] == "exact" else a["loss"] for a in answers}

    def best(self, data, arm):
        losses = self.sweep(data, arm)
        if not losses:
            sys.exit(f"muonp: error: {self.folder} has no complete run of {data}, {arm}")
        return min(losses, key=losses.get)


def pack(folder):
    """A run's losses and answers, without its times."""
    for mark in sorted(folder.glob("*.complete")):
        kept = [{key: value for key, value in line.items() if key in ("step", "loss", "val_loss") or key.startswith("eval.")}
                for line in lines(mark.with_suffix(""))]
        print(json.dumps({"run": mark.stem, "metrics": [line for line in kept if len(line) > 1]}))
    for file in sorted(folder.glob("*-before.json")):
        print(json.dumps({"before": file.stem, "answers": file.read_text(encoding="utf-8")}))


def unpack(folder):
    for line in sys.stdin:
        record = json.loads(line)
        if "before" in record:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / record["before"]).with_suffix(".json").write_text(record["answers"], encoding="utf-8")
            continue
        run = folder / record["run"]
        run.mkdir(parents=True, exist_ok=True)
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in record["metrics"]), encoding="utf-8")
        (folder / f"{record['run']}.complete").touch()


def spread(values, digits=4, scale=1.0):
    """Mean, and half of the range of the seeds."""
    values = [scale * v for v in values if v is not None]
    if not values:
        return "-"
    half = (max(values) - min(values)) / 2
    return f"{statistics.mean(values):.{digits}f} ± {half:.{digits}f}"


def sweep_table(study, data):
    rates = sorted({rate for arm in ARMS for rate in study.sweep(data, arm)}, key=float)
    print(f"\nHeld-out loss after {study.steps} steps, {data}, seed 1, by learning rate:\n")
    print(f"| rule | {' | '.join(rates)} |\n|---|{'---|' * len(rates)}")
    for arm, title in ARMS.items():
        losses = study.sweep(data, arm)
        if losses:
            best = study.best(data, arm)
            cells = [("" if r not in losses else f"**{losses[r]:.4f}**" if r == best else f"{losses[r]:.4f}") for r in rates]
            print(f"| {title} | {' | '.join(cells)} |")


def best_table(study, data):
    keys = {"held-out loss": ("val_loss", 4, 1), "exact match, %": ("eval.exact.exact", 1, 100),
            "loss on essays": ("eval.essays.loss", 4, 1), "loss on another text": ("eval.other.loss", 4, 1)}
    if data == "kjv":
        del keys["exact match, %"]
    print(f"\nAt the best rate, {data}, two seeds, mean ± half of their range:\n")
    print(f"| rule | rate | {' | '.join(keys)} |\n|---|---|{'---|' * len(keys)}")
    before = study.before(data)
    cells = ["" if key not in before else f"{scale * before[key]:.{digits}f}" for key, digits, scale in keys.values()]
    print(f"| before | | {' | '.join(cells)} |")
    for arm, title in ARMS.items():
        runs = study.runs(data, arm, "best")
        if runs:
            cells = [spread([last(run, key) for _, run in runs], digits, scale) for key, digits, scale in keys.values()]
            print(f"| {title} | {runs[0][0]} | {' | '.join(cells)} |")


def main():
    study = Study(sys.argv[1], sys.argv[2])
    if sys.argv[3] == "best":
        print(study.best(sys.argv[4], sys.argv[5]))
        return
    if sys.argv[3] in ("pack", "unpack"):
        {"pack": pack, "unpack": unpack}[sys.argv[3]](study.folder)
        return
    for data in ("gsm", "kjv"):
        if (study.folder / f"{data}-before.json").exists():
            sweep_table(study, data)
            best_table(study, data)


main()
