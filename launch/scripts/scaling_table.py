"""Prints what launch/scripts/scaling_study.sh measured and predicted, as Markdown tables.

    python3 scaling_table.py FOLDER

FOLDER holds measured.json, as `muonp bench scaling --json` prints it, and predicted.jsonl, a line for each model, number of
GPUs and setting of parallel.owners: a prediction of `muonp plan --cluster --json`.
"""

import json
import os
import sys

# What a step does after the gradients are there, but for weights that are gathered.
OPTIMIZER = ("momentum", "matrices to owners", "matrix updates", "updates to all", "weight update")


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def measured(path):
    with open(path, encoding="utf-8") as file:
        results = json.load(file)["results"]
    row("scaling", "settings", "ranks", "processors", "step [s]", "quartiles", "efficiency", "optimizer step [s]", "efficiency")
    row(*9 * ["---"])
    for r in results:
        row(
            r["scaling"],
            f"`{r['set']}`",
            r["ranks"],
            f"{r['processors']:.0f}",
            f"{r['step_seconds']:.3f}",
            f"{r['step_seconds_lower_quartile']:.3f}, {r['step_seconds_upper_quartile']:.3f}",
            f"{r['efficiency']:.0%}",
            f"{r['optimizer_seconds']:.3f}",
            f"{r['optimizer_efficiency']:.0%}",
        )


def milliseconds(forecast):
    return f"{1e3 * forecast['step_seconds']:.4g}" + ("" if forecast["fits"] else " (does not fit)")


def predicted(path):
    plans = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            plan = json.loads(line)
            plans[plan["model"], plan["ranks"], plan["owners"]] = plan
    for model in dict.fromkeys(key[0] for key in plans):
        print(f"\n**{model}**\n")
        row(
            "GPUs", "step [ms]", "efficiency", "optimizer", "bound by", "sent by a GPU [GB]", "memory [GiB]", "imbalance",
            "owner groups [ms]", "replicated Muon [ms]", "all-gather of momentum [ms]",
        )  # fmt: skip
        row(*11 * ["---"])
        first = None
        for ranks in sorted(key[1] for key in plans if key[0] == model and key[2] == "whole"):
            plan, groups = plans[model, ranks, "whole"], plans[model, ranks, "auto"]
            others = {scheme["scheme"]: scheme for scheme in plan["schemes"]}
            first = first or plan["step_seconds"]
            share = sum(p["seconds"] for p in plan["phases"] if p["phase"] in OPTIMIZER) / plan["step_seconds"]
            row(
                ranks,
                milliseconds(plan),
                f"{first / plan['step_seconds']:.1%}",
                f"{share:.1%}",
                plan["bound_by"],
                f"{plan['bytes_sent'] / 1e9:.3g}",
                f"{plan['memory_bytes'] / 2**30:.1f}",
                f"{plan['imbalance']:.2f}",
                milliseconds(groups),
                milliseconds(others["replicated Muon"]),
                milliseconds(others["all-gather of momentum"]),
            )


def main(folder):
    measured(os.path.join(folder, "measured.json"))
    predicted(os.path.join(folder, "predicted.jsonl"))


main(sys.argv[1])
