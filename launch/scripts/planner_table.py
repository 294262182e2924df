"""Prints what launch/scripts/planner_study.sh measured beside what was predicted, as a Markdown table.

    python3 planner_table.py raw.jsonl

Each line of the file has "kind" (predicted, measured), "setting" and "result". Seconds are medians over rounds, of what the
rates of a round predict and of its median step; the error is the median of the rounds' own, whose range is behind it. Memory
is the most that rank 0 held in any round.
"""

import json
import statistics
import sys


def main(path):
    predicted, measured = {}, {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["kind"] == "predicted":
                predicted.setdefault(entry["setting"], []).append(entry["result"])
            else:
                measured.setdefault(entry["setting"], []).append(entry["result"])
    print("| model | ranks | settings | step, measured [ms] | predicted [ms] | error | bound by | memory, held [MiB] | planned | error |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    worst_time = worst_memory = 0.0
    for setting, plans in predicted.items():
        model, how, ranks, _, *values = setting.split()
        runs = measured[setting]
        seconds = statistics.median(run["seconds_median"] for run in runs)
        expected = statistics.median(plan["step_seconds"] for plan in plans)
        errors = [plan["step_seconds"] / run["seconds_median"] - 1 for plan, run in zip(plans, runs, strict=True)]
        held = max(run["peak_bytes"] for run in runs)
        time_error = statistics.median(errors)
        planned = runs[0]["planned_peak_bytes"]  # of the rank that was looked at
        memory_error = planned / held - 1
        worst_time = max(worst_time, abs(time_error))
        worst_memory = max(worst_memory, abs(memory_error))
        where = {"alone": ranks, "together": ranks, "apart": f"{ranks}, two hosts"}[how]
        print(
            f"| {model} | {where} | {' '.join(values)} | {1e3 * seconds:.0f} | {1e3 * expected:.0f} "
            f"| {time_error:+.1%} ({min(errors):+.0%} to {max(errors):+.0%}) | {plans[0]['bound_by']} | {held / 2**20:.1f} | {planned / 2**20:.1f} | {memory_error:+.2%} |"
        )
    print(f"\nLargest error of a time {worst_time:.1%}, of memory {worst_memory:.2%}.")


main(sys.argv[1])
