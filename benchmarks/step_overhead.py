"""What a step of the simulator costs beside a hand-written loop of the same arithmetic.

The 4-layer MNIST chain with linear synthetic gradients conditioned on the label, batch 256, telemetry off, one
thread; the turns of the two are interleaved. Run: `python benchmarks/step_overhead.py --json` (needs ANTIPHON_DATA).
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
from interleaved import Contestant, finish, overhead, parsed, timed


def contestants() -> dict[str, Contestant]:
    """Return what takes a step by hand, and what simulates one; each has its own environment."""
    scenario = load("mnist-mlp").resolve()
    torch.manual_seed(0)
    hand = ChainByHand()
    env = make(scenario.env, batch=scenario.training.batch)
    env.request({"image", "label"})
    shown = list(env.reset(seed=0))

    def by_hand() -> None:
        hand.step(shown[0]["image"].flatten(1), shown[1]["label"])
        shown[0], _, _, _, shown[1] = env.step(None)

    return {"by_hand": by_hand, "simulated": Simulation(scenario, seed=0).step}


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments = parsed(parser, rounds=20)
    torch.set_num_threads(1)
    figures, lines = overhead(timed(contestants(), arguments.rounds), "step")
    finish({"benchmark": "step_overhead", **figures}, arguments, lines)


if __name__ == "__main__":
    main()
