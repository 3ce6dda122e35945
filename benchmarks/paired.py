"""Two contestants timed in turn: blocks alternate, each pair gives one ratio of CPU times."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from machine import machine

__all__ = ["compared", "parsed", "report"]

Work = Callable[[], None]


def _cpu_seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compared(by_hand: Work, simulated: Work, blocks: int, units: int, unit: str) -> dict[str, object]:
    """Return the median ratio of the simulator's CPU time to the hand-written loop's, with a bootstrap interval.

    Args:
        by_hand: Plays a block by hand.
        simulated: Simulates one.
        blocks: How many of each.
        units: Of work in a block.
        unit: What they are called.
    """
    by_hand()
    simulated()
    pairs = [(_cpu_seconds(by_hand), _cpu_seconds(simulated)) for _ in range(blocks)]
    ratios = np.array([ours / theirs for theirs, ours in pairs])
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (10_000, blocks)), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return {
        "blocks": blocks,
        f"{unit}s_per_block": units,
        "ratio": round(float(np.median(ratios)), 3),
        "interval_95": [round(float(low), 3), round(float(high), 3)],
        f"ms_per_{unit}": round(float(np.median([ours for _, ours in pairs])) / units * 1e3, 3),
        f"ms_per_{unit}_by_hand": round(float(np.median([theirs for theirs, _ in pairs])) / units * 1e3, 3),
        "machine": machine(),
    }


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the arguments of a benchmark of pairs: its own, `--blocks` and `--json`."""
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def report(result: dict[str, object], unit: str, *, as_json: bool) -> None:
    """Print a result, as JSON or as one sentence."""
    if as_json:
        print(json.dumps(result))
        return
    low, high = result["interval_95"]  # type: ignore[misc]
    print(
        f"simulator / hand-written loop, CPU time per {unit}: {result['ratio']} "
        f"(95 % interval {low} to {high})"
    )
