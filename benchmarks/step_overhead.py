"""What a step of the simulator costs beside a hand-written loop of the same arithmetic.

The 4-layer MNIST chain with linear synthetic gradients conditioned on the label, batch 256, telemetry off, one
thread. Blocks of steps alternate between the two; each pair of blocks gives one ratio of CPU times; the figure is
the median with a bootstrap interval. Run: `python benchmarks/step_overhead.py --json` (needs ANTIPHON_DATA).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from antiphon.engine.simulation import Simulation
from antiphon.envs import make
from antiphon.scenarios import load

sys.path.insert(0, str(Path(__file__).parent))
from baselines.chain_by_hand import ChainByHand
from paired import compared, parsed, report


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

    return {"benchmark": "step_overhead", **compared(by_hand, simulated, blocks, steps, "step")}


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=25, help="steps per block")
    arguments = parsed(parser)
    report(measure(arguments.blocks, arguments.steps), "step", as_json=arguments.json)


if __name__ == "__main__":
    main()
