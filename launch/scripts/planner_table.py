"""Prints what launch/scripts/planner_study.sh measured beside what was predicted, as a Markdown table.

    python3 planner_table.py raw.jsonl

Each line of the file has "kind" (predicted, measured), "setting" and "result". Seconds are medians over rounds of each
round's median step; memory is the most that rank 0 held in any round.
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
                predicted[entry["setting"]] = entry["result"]["predictions"][0]
            else:
                measured.setdefault(entry["setting"], []).append(entry["result"])
    print("| model | ranks | settings | step, measured [ms] | predicted [ms] | error | bound by | memory, held [MiB] | planned | error |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    worst_time = worst_memory = 0.0
    for setting, plan in predicted.items():
        model, how, ranks, _, *values = setting.split()
        runs = measured[setting]
        seconds = statistics.median(run["seconds_median"] for run in runs)
        held = max(run["peak_bytes"] for run in runs)
        time_error = plan["step_seconds"] / seconds - 1
        planned = runs[0]["planned_peak_bytes"]  # of the rank that was looked at
        memory_error = planned / held - 1
        worst_time = max(worst_time, abs(time_error))
        worst_memory = max(worst_memory, abs(memory_error))
        where = {"alone": ranks, "together": ranks, "apart": f"{ranks}, two hosts"}[how]
        print(
            f"| {model} | {where} | {' '.join(values)} | {1e3 * seconds:.1f} | {1e3 * plan['step_seconds']:.1f} | {time_error:+.1%} "
            f"| {plan['bound_by']} | {held / 2**20:.1f} | {planned / 2**20:.1f} | {memory_error:+.2%} |"
        )
    print(f"\nLargest error of a time {worst_time:.1%}, of memory {worst_memory:.2%}.")


main(sys.argv[1])
