"""What a window of the decoupled two-timescales system costs beside a hand-written loop of the same arithmetic.

The library scenario's defaults (T = 4, hidden 128, batch 64), telemetry off, one thread. Blocks of windows of T x T
steps alternate between the two; each pair of blocks gives one ratio of CPU times; the figure is the median with a
bootstrap interval. Run: `python benchmarks/window_overhead.py --json` (`--data mnist` needs ANTIPHON_DATA).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiphon.engine.simulation import Simulation
from antiphon.envs import make
from antiphon.scenarios import load

sys.path.insert(0, str(Path(__file__).parent))
from baselines.timescales_by_hand import KINDS, TimescalesByHand
from machine import machine

T = 4
SIGNALS = ("image", "count_so_far", "odd", "threes")


def cpu_seconds(work: Callable[[], None]) -> float:
    """Return the CPU time that `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def contestants(data: str, kind: str, windows: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what plays a block by hand, and what simulates one; each has its own environment."""
    scenario = load("two-timescales").resolve("decoupled", {"data": data, "gradient": kind, "T": T})
    simulation = Simulation(scenario, seed=0)
    torch.manual_seed(0)
    env = make(scenario.env, batch=scenario.training.batch)
    hand = TimescalesByHand(torch.Size(env.signals["image"].shape).numel(), kind=kind, T=T)
    env.request(SIGNALS)
    shown: list[dict[str, Any]] = list(env.reset(seed=0))

    def by_hand() -> None:
        for _ in range(windows * T * T):
            (seen, told), (following, _, _, _, info) = shown, env.step(None)
            hand.step(seen["image"].flatten(1), told["count_so_far"], info["odd"], info["threes"])
            shown[:] = following, info

    def simulated() -> None:
        for _ in range(windows * T * T):
            simulation.step()

    return by_hand, simulated


def measure(blocks: int, windows: int, data: str, kind: str) -> dict[str, object]:
    """Return the ratio of the simulator's CPU time to the hand-written loop's."""
    torch.set_num_threads(1)
    by_hand, simulated = contestants(data, kind, windows)
    by_hand()
    simulated()
    pairs = [(cpu_seconds(by_hand), cpu_seconds(simulated)) for _ in range(blocks)]
    ratios = np.array([ours / theirs for theirs, ours in pairs])
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (10_000, blocks)), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return {
        "benchmark": "window_overhead",
        "data": data,
        "gradient": kind,
        "blocks": blocks,
        "windows_per_block": windows,
        "ratio": round(float(np.median(ratios)), 3),
        "interval_95": [round(float(low), 3), round(float(high), 3)],
        "ms_per_window": round(float(np.median([o for _, o in pairs])) / windows * 1e3, 3),
        "ms_per_window_by_hand": round(float(np.median([t for t, _ in pairs])) / windows * 1e3, 3),
        "machine": machine(),
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--windows", type=int, default=10, help="windows of T x T steps per block")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--gradient", choices=KINDS, default="sobolev_label", help="of A's message")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result = measure(arguments.blocks, arguments.windows, arguments.data, arguments.gradient)
    if arguments.json:
        print(json.dumps(result))
        return
    low, high = result["interval_95"]  # type: ignore[misc]
    print(
        f"simulator / hand-written loop, CPU time per window: {result['ratio']} (95 % interval {low} to {high})"
    )


if __name__ == "__main__":
    main()
