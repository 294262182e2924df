"""Problems of a data set of reasoning-gym as JSONL. Called by write_tasks.sh.

    python write_tasks.py FOLDER DATASET TRAIN VALIDATION TEST SEED SETTINGS

Ends with status 3 where the data set may be in a part of the package that cannot be imported here.
"""
import importlib
import importlib.util
import json
import os
import pathlib
import shutil
import sys
import types

NAME = "reasoning_gym"
BATCH = 500
STALLED = 20  # batches without a new problem, after which the data set is held to have no more


def fail(message, status=1):
    print(f"muonp: error: {message}", file=sys.stderr)
    sys.exit(status)


def import_parts():
    """The package's parts, one by one instead of all or none: returns what is missing to those that cannot be imported."""
    root = pathlib.Path(importlib.util.find_spec(NAME).origin).parent
    package = types.ModuleType(NAME)
    package.__path__ = [str(root)]
    sys.modules[NAME] = package
    missing = set()
    for part in sorted(p.parent.name for p in root.glob("*/__init__.py")):
        try:
            importlib.import_module(f"{NAME}.{part}")
        except ModuleNotFoundError as error:
            missing.add(error.name)
    return missing


def example(entry):
    result = str(entry["answer"]).strip()
    way = str(entry["metadata"].get("answer_cot", "")).split("####")[0].strip()
    return {"question": entry["question"].strip(), "answer": f"{way}\n#### {result}".strip()}


def problems(factory, dataset, seed):
    """New problems without end; the seeds of batches are seed * 10^6, ... + 1, ..."""
    seen, stalled = set(), 0
    for batch in range(1_000_000):
        before = len(seen)
        for entry in factory.create_dataset(dataset, size=BATCH, seed=seed * 1_000_000 + batch):
            found = example(entry)
            if found["question"] not in seen:
                seen.add(found["question"])
                yield found
        stalled = 0 if len(seen) > before else stalled + 1
        if stalled == STALLED:
            fail(f"{dataset} has no more than {len(seen)} different problems")


def main():
    out, dataset, settings = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[7]
    train, validation, test, seed = (int(n) for n in sys.argv[3:7])
    missing = import_parts()
    factory = importlib.import_module(f"{NAME}.factory")
    if dataset not in factory.DATASETS:
        if missing:
            print(f"{dataset} is not in the parts that need no more packages", file=sys.stderr)
            sys.exit(3)
        fail(f"reasoning-gym has no data set {dataset}; it has {', '.join(sorted(factory.DATASETS))}")
    partial = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    partial.mkdir()
    try:
        source = problems(factory, dataset, seed)
        for name, count in (("train", train), ("validation", validation), ("test", test)):
            with open(partial / f"{name}.jsonl", "w", encoding="utf-8") as file:
                for _ in range(count):
                    file.write(json.dumps(next(source), ensure_ascii=False) + "\n")
            print(f"{out / name}.jsonl: {count} problems of {dataset}", flush=True)
        (partial / "settings.txt").write_text(settings + "\n")
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


main()
