"""What a window of the decoupled two-timescales system costs beside a hand-written loop of the same arithmetic.

The library scenario's defaults (T = 4, hidden 128, batch 64), telemetry off, one thread. Blocks of windows of T x T
steps alternate between the two; each pair of blocks gives one ratio of CPU times; the figure is the median with a
bootstrap interval. Run: `python benchmarks/window_overhead.py --json` (`--data mnist` needs ANTIPHON_DATA).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.simulation import Simulation
from antiphon.envs import make
from antiphon.scenarios import load

sys.path.insert(0, str(Path(__file__).parent))
from baselines.timescales_by_hand import KINDS, TimescalesByHand
from paired import compared, parsed, report

T = 4
SIGNALS = ("image", "count_so_far", "odd", "threes")


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
    figures = compared(by_hand, simulated, blocks, windows, "window")
    return {"benchmark": "window_overhead", "data": data, "gradient": kind, **figures}


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=10, help="windows of T x T steps per block")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--gradient", choices=KINDS, default="sobolev_label", help="of A's message")
    arguments = parsed(parser)
    result = measure(arguments.blocks, arguments.windows, arguments.data, arguments.gradient)
    report(result, "window", as_json=arguments.json)


if __name__ == "__main__":
    main()
