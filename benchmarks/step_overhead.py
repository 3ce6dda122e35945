"""What a step of the simulator costs beside a hand-written loop of the same arithmetic.

The 4-layer MNIST chain with linear synthetic gradients conditioned on the label, batch 256, telemetry off, one
thread. Blocks of steps alternate between the two; each pair of blocks gives one ratio of CPU times; the figure is
the median with a bootstrap interval. Run: `python benchmarks/step_overhead.py --json` (needs ANTIPHON_DATA).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from antiphon.engine.simulation import Simulation
from antiphon.envs import make
from antiphon.scenarios import load

sys.path.insert(0, str(Path(__file__).parent))
from baselines.chain_by_hand import ChainByHand
from machine import machine


def cpu_seconds(work: Callable[[], None]) -> float:
    """Return the CPU time that `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(blocks: int, steps: int) -> dict[str, object]:
    """Return the ratio of the simulator's CPU time to the hand-written loop's."""
    torch.set_num_threads(1)
    scenario = load("mnist-mlp").resolve()
    simulation = Simulation(scenario, seed=0)
    torch.manual_seed(0)
    hand = ChainByHand()
    env = make(scenario.env, batch=scenario.training.batch)
    env.request({"image", "label"})
    shown = list(env.reset(seed=0))

    def by_hand() -> None:
        for _ in range(steps):
            hand.step(shown[0]["image"].flatten(1), shown[1]["label"])
            shown[0], _, _, _, shown[1] = env.step(None)

    def simulated() -> None:
        for _ in range(steps):
            simulation.step()

    by_hand()
    simulated()
    pairs = [(cpu_seconds(by_hand), cpu_seconds(simulated)) for _ in range(blocks)]
    ratios = np.array([ours / theirs for theirs, ours in pairs])
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (10_000, blocks)), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return {
        "benchmark": "step_overhead",
        "blocks": blocks,
        "steps_per_block": steps,
        "ratio": round(float(np.median(ratios)), 3),
        "interval_95": [round(float(low), 3), round(float(high), 3)],
        "ms_per_step": round(float(np.median([o for _, o in pairs])) / steps * 1e3, 3),
        "ms_per_step_by_hand": round(float(np.median([t for t, _ in pairs])) / steps * 1e3, 3),
        "machine": machine(),
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=25, help="steps per block")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result = measure(arguments.blocks, arguments.steps)
    if arguments.json:
        print(json.dumps(result))
        return
    low, high = result["interval_95"]  # type: ignore[misc]
    print(
        f"simulator / hand-written loop, CPU time per step: {result['ratio']} (95 % interval {low} to {high})"
    )


if __name__ == "__main__":
    main()
