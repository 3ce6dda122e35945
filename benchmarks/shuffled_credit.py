"""What a synthetic gradient says of its own sample: the same training, with every prediction handed to another one.

Where the shuffled run does as well, the gain over `detached` is not credit: it comes of what the predictions of a batch
have in common. Run: `python benchmarks/shuffled_credit.py char-lm --set text=moby_dick --steps 15000 --json`, or
`python benchmarks/shuffled_credit.py cartpole-team`, whose measure is the return of whole episodes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from antiphon.commands.arguments import values_of
from antiphon.engine.backends import StackedBackend
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.updates import Credit
from antiphon.running.simulation import Simulation
from antiphon.scenarios import load

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine


class Shuffled(Feature):
    """The credit of channels with a synthetic gradient: each environment gets the credit of its neighbour."""

    def replace_credit(
        self, channel: Channel, message: Message, ordinary: Callable[[], Credit | None]
    ) -> Credit | None:
        """Return the credit of a message, [B, size], each row the next environment's: see `Feature.replace_credit`."""
        credit = ordinary()
        if credit is None or not channel.injects_prediction:
            return credit
        return credit._replace(gradient=credit.gradient.roll(1, 0))


def outcome(simulation: Simulation, steps: int) -> dict[str, float]:
    """Train, and return every objective's metric on the test split, of policies the mean return of whole episodes; without
    either, what the environment says."""
    for _ in range(steps):
        simulation.running.advance()
    env, agents = simulation.world.env, simulation.scenario.agents.values()
    if "test" not in env.splits and not any(
        a.objective is not None and a.objective.needs_rewards for a in agents
    ):
        return env.metrics()
    found = simulation.evaluate("test").agents
    return {
        f"{name}.{k}": round(v, 4) for name, kept in found.items() for k, v in kept.items() if k != "loss"
    }


def main() -> None:
    """Parse arguments, train each seed twice, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario")
    parser.add_argument("--variant", default="decoupled")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="name=value")
    parser.add_argument("--steps", type=int, help="default: the scenario's")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--shuffled-only", action="store_true", help="leave out the runs as they are")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    values = values_of(arguments.settings)
    if arguments.steps is not None:
        values["steps"] = arguments.steps
    scenario = load(arguments.scenario).resolve(arguments.variant, values)
    rows = []
    for seed in range(arguments.seeds):
        for shuffled in (True,) if arguments.shuffled_only else (False, True):
            simulation = Simulation(scenario, seed=seed)
            if shuffled:
                engine = simulation.running.backend = StackedBackend(simulation.running.system, stacked=False)
                engine.features.install(Shuffled())
            row = {"seed": seed, "shuffled": shuffled, **outcome(simulation, scenario.training.steps)}
            rows.append(row)
            if not arguments.json:
                print(row)
    if arguments.json:
        named = {"scenario": arguments.scenario, "variant": arguments.variant, "values": values}
        print(json.dumps({"benchmark": "shuffled_credit", **named, "rows": rows, "machine": machine()}))


if __name__ == "__main__":
    main()
