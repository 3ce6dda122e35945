"""The switch riddle of Foerster et al. (2016): the greedy return as a share of the oracle's, while prisoners learn over a switch.

    python benchmarks/switch_riddle.py [--seeds 3] [--updates 1000] [--every 250] [--prisoners 3] [CASE …]

A case is a coupling of the switch, or `cut`: no prisoner sees it. Prisoners have one set of parameters (a GRU), and learn values of
their actions from whole episodes, 32 in each update. The switch is a message of one bit from each prisoner to each; a mask of
the environment lets only that through which one sets in the room and another, or the same one, finds there on the next day.
The oracle tells as soon as all have been in the room. Returns are over 512 episodes of each seed.
"""

from __future__ import annotations

import argparse
import time
from math import comb
from typing import Any

from antiphon import Scenario
from antiphon.jobs.populations.population import Population

_EPISODES = 16
"""Episodes of an evaluation, in each of 32 environments."""
CASES: dict[str, dict[str, Any]] = {
    "locked": {"coupling": "locked"},
    "decoupled": {
        "gradient": {"kind": "mlp", "hidden": [64], "context": ["been", "from.state"], "rescale": "rms"}
    },
    "detached": {"coupling": "detached"},
    "cut": {"coupling": "detached", "link": {"delay": 1, "drop": 1.0}},
}


def scenario_of(case: str, updates: int, prisoners: int = 3, batch: int = 32, size: int = 64) -> Scenario:
    """Return the riddle over one kind of channel."""
    names, days = [f"prisoner_{number}" for number in range(prisoners)], days_of(prisoners)
    values = {"kind": "q", "epochs": 1, "normalise": "none", "discount": 1, "trace": 0, "period": 100}
    agents = {
        name: {
            "observes": [f"{name}.in_room", f"id.{name}"],
            "acts": name,
            "share": "team",
            "network": {"kind": "gru", "size": size},
            "fan_in": "sum",
            "clock": {"unroll": "episode"},
            "objective": {**values, "explore": 0, "mask": f"{name}.action_mask", "reward": f"reward.{name}"},
        }
        for name in names
    }
    switch = {"port": "switch", "sample": {"kind": "gumbel", "vocabulary": 2}, "link": {"delay": 1}}
    channels = [
        {"from": one, "to": other, "mask": f"switch.{one}.{other}", **switch, **CASES[case]}
        for one in names
        for other in names
    ]
    return Scenario.model_validate(
        {
            "scenario": "switch-riddle",
            "env": {"id": "antiphon/SwitchRiddle-v0", "prisoners": prisoners, "limit": days},
            "agents": agents,
            "channels": channels,
            "training": {
                "batch": batch,
                "steps": updates * days,
                "optimiser": {"kind": "adam", "lr": 0.001},
            },
        }
    )


def days_of(prisoners: int) -> int:
    """Return the days of an episode, as in the paper."""
    return 4 * prisoners - 6


def oracle(prisoners: int) -> float:
    """Return the probability that all have been in the room before the last day is over."""
    shares = (((prisoners - absent) / prisoners) ** days_of(prisoners) for absent in range(prisoners))
    return sum((-1) ** absent * comb(prisoners, absent) * share for absent, share in enumerate(shares))


def main() -> None:
    """Train each case, and print the returns of its seeds as they learn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=list(CASES))
    for name, number in (("seeds", 3), ("updates", 1000), ("every", 250), ("prisoners", 3)):
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    if not {*options.cases} <= {*CASES}:
        parser.error(f"cases: {' '.join(options.cases)}; known: {', '.join(CASES)}")
    if options.prisoners < 2 or min(options.seeds, options.updates, options.every) < 1:
        parser.error("two prisoners or more; seeds, updates and every are at least 1")
    best, days = oracle(options.prisoners), days_of(options.prisoners)
    for case in options.cases:
        began = time.process_time()
        runs = Population(scenario_of(case, options.updates, options.prisoners), range(options.seeds))
        try:
            for updates in range(options.every, options.updates + 1, options.every):
                runs.run(steps=options.every * days)
                each = [run.evaluate(episodes=_EPISODES).return_ / best for run in runs.simulations]
                shares = " ".join(f"{share:.2f}" for share in each)
                seconds = (time.process_time() - began) / options.seeds
                print(f"{case}, {updates} updates: {shares}, {seconds:.0f} CPU s a seed", flush=True)
        finally:
            runs.close()


if __name__ == "__main__":
    main()
