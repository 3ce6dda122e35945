"""Teams of `capture-flag` that talk over decoupled channels against teams over detached ones.

    python benchmarks/flag_teams.py [--seeds 5] [--steps 3000] [--games 512]

In self-play a team's return says nothing: it is 0 on average, whoever learns more. So the teams of both variants are trained, and those
of one seed play against each other, sampling as in training. Reported are score rates of the decoupled team (won games plus half
of the drawn ones) and captures of either team in a game.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch

import antiphon
from antiphon.engine.inference.policy import Policy
from antiphon.jobs.populations.population import Population

sys.path.insert(0, str(Path(__file__).parent))
from league import games


def teams(variant: str, seeds: int, steps: int) -> list[Policy]:
    """Return the trained team of each seed."""
    scenario = antiphon.load("capture-flag").resolve(variant)
    runs = Population(scenario, range(seeds))
    try:
        runs.run(steps)
        return [simulation.policy(greedy=False) for simulation in runs.simulations]
    finally:
        runs.close()


def main() -> None:
    """Train, play and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, number in (("seeds", 5), ("steps", 3000), ("games", 512)):
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = zip(*(teams(v, options.seeds, options.steps) for v in ("decoupled", "detached")), strict=True)
    rates, ours, theirs = zip(*(games([one], [other], options.games) for one, other in pairs), strict=True)
    mean, deviation = statistics.mean(map(float, rates)), statistics.pstdev(map(float, rates))
    line = " ".join(f"{float(rate):.2f}" for rate in rates)
    captures = [statistics.mean(map(float, side)) for side in (ours, theirs)]
    print(f"score rate {mean:.2f} ± {deviation:.2f} ({line}), captures {captures[0]:.1f} : {captures[1]:.1f}")


if __name__ == "__main__":
    main()
