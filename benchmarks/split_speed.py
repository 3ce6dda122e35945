"""What a step of a split GPT costs, one block an agent, beside the plain training loop of the same model.

Turns of the ways of training are interleaved in one process (`interleaved.py`): ratios of CPU times round by round, medians with
bootstrap intervals. Demanded is at most 1.10 of the plain loop's time for a locked split, and at most 1.25 for a decoupled one
with local losses, whose heads are more work than the loop has.
Run: `python benchmarks/split_speed.py --json`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from antiphon.nets.memory import keep_memory

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, ratio, table, timed
from split_gpt import WAYS, prepared

PLAIN = "plain loop"
DEMANDS = {"locked": 1.10, "decoupled, sweep": 1.25}


def measure(blocks: int, rounds: int, **sizes: int) -> list[dict[str, Any]]:
    """Return a row for each way of training."""
    torch.set_num_threads(1)
    keep_memory()
    steps = {way: prepared(way, blocks, **sizes)[0] for way in WAYS}
    times = timed(steps, rounds, seconds=0.5)
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        median, low_high = ratio(times, way, PLAIN)
        row = {"way": way, "ms_per_step": round(float(1e3 * sorted(times[way])[rounds // 2]), 1)}
        row |= {"ratio": median, "interval_95": low_high}
        if way in DEMANDS:
            row |= {"demand": DEMANDS[way], "met": median <= DEMANDS[way]}
        rows.append(row)
    return rows


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parsed(parser, rounds=15)
    sizes = {name: getattr(arguments, name) for name in ("width", "length", "batch")}
    rows = measure(arguments.blocks, arguments.rounds, **sizes)
    met = all(row.get("met", True) for row in rows)
    columns = ["way", "ms_per_step", "ratio", "interval_95", "demand", "met"]
    result = {"benchmark": "split_speed", "blocks": arguments.blocks, **sizes, "rows": rows, "met": met}
    finish(result, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
