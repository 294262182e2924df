"""Every scalar that TensorBoard's own reader finds in FOLDER beside the number in a metrics.jsonl: event_values.py METRICS FOLDER"""
import json
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def numbers(value, tag=()):
    """(tag, number) of everything below `value`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, tag + tuple(key.split(".")))
    elif isinstance(value, (bool, int, float)):
        yield "/".join(tag), struct.unpack("f", struct.pack("f", value))[0]


def main(metrics, folder):
    events = EventAccumulator(folder, size_guidance={"scalars": 0})
    events.Reload()
    read = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    wanted = {}
    with open(metrics, encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            step = line.pop("step")
            for tag, number in numbers(line):
                wanted.setdefault(tag, []).append((step, number))
    wrong = sorted(tag for tag in wanted.keys() | read.keys() if repr(wanted.get(tag)) != repr(read.get(tag)))
    print(f"{sum(map(len, read.values()))} values of {len(read)} tags, {len(wrong)} tags not as in {metrics}: {wrong[:5]}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
