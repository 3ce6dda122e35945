"""What a window of the decoupled two-timescales system costs beside a hand-written loop of the same arithmetic.

The library scenario's defaults (T = 4, hidden 128, batch 64), telemetry off, one thread; the turns of the two are
interleaved, in windows of T x T steps. Run: `python benchmarks/window_overhead.py --json` (`--data mnist` needs
ANTIPHON_DATA).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.simulation import Simulation
from antiphon.envs import make
from antiphon.scenarios import load

sys.path.insert(0, str(Path(__file__).parent))
from baselines.timescales_by_hand import KINDS, TimescalesByHand
from interleaved import Contestant, finish, overhead, parsed, timed

T = 4
SIGNALS = ("image", "count_so_far", "odd", "threes")


def contestants(data: str, kind: str) -> dict[str, Contestant]:
    """Return what plays a window by hand, and what simulates one; each has its own environment."""
    scenario = load("two-timescales").resolve("decoupled", {"data": data, "gradient": kind, "T": T})
    simulation = Simulation(scenario, seed=0)
    torch.manual_seed(0)
    env = make(scenario.env, batch=scenario.training.batch)
    hand = TimescalesByHand(torch.Size(env.signals["image"].shape).numel(), kind=kind, T=T)
    env.request(SIGNALS)
    shown: list[dict[str, Any]] = list(env.reset(seed=0))

    def by_hand() -> None:
        for _ in range(T * T):
            (seen, told), (following, _, _, _, info) = shown, env.step(None)
            hand.step(seen["image"].flatten(1), told["count_so_far"], info["odd"], info["threes"])
            shown[:] = following, info

    def simulated() -> None:
        for _ in range(T * T):
            simulation.step()

    return {"by_hand": by_hand, "simulated": simulated}


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--gradient", choices=KINDS, default="sobolev_label", help="of A's message")
    arguments = parsed(parser, rounds=20)
    torch.set_num_threads(1)
    times = timed(contestants(arguments.data, arguments.gradient), arguments.rounds)
    figures, lines = overhead(times, "window")
    result = {"benchmark": "window_overhead", "data": arguments.data, "gradient": arguments.gradient}
    finish({**result, **figures}, arguments, lines)


if __name__ == "__main__":
    main()
