"""Gymnasium's classic control by documents that name the environment alone: returns of greedy policies over five seeds.

    python benchmarks/gymnasium_defaults.py [--seeds 5] [ENVIRONMENT …]

The seeds of an environment are trained together, and each is evaluated on the first whole episode of 64 environments. The
results are written to benchmarks/results/gymnasium_defaults.json after each environment; those of others are kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from machine import machine

from antiphon import Scenario
from antiphon.jobs.populations.population import Population

SOLVED = {"CartPole-v1": 475, "Acrobot-v1": -100, "Pendulum-v1": -250}
RESULTS = Path(__file__).parent / "results" / "gymnasium_defaults.json"


def scenario_of(environment: str) -> Scenario:
    """Return the shortest document of a policy in one of Gymnasium's environments."""
    player = {"observes": ["observation"], "acts": True, "objective": "ppo"}
    document = {
        "scenario": "defaults",
        "env": {"id": f"gymnasium/{environment}"},
        "agents": {"player": player},
    }
    return Scenario.model_validate(document)


def measured(scenario: Scenario, seeds: int, solved: float) -> dict[str, Any]:
    runs = Population(scenario, range(seeds))
    try:
        runs.run()
        returns = [simulation.evaluate().return_ for simulation in runs.simulations]
    finally:
        runs.close()
    return {
        "environment_steps": runs.simulations[0].now * scenario.training.batch,
        "returns": returns,
        "mean": statistics.mean(returns),
        "deviation": statistics.stdev(returns) if seeds > 1 else 0.0,
        "solved": sum(found >= solved for found in returns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environments", nargs="*", metavar="ENVIRONMENT", help="default: all three")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    for environment in options.environments or SOLVED:
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        found = results[environment] = measured(scenario_of(environment), options.seeds, SOLVED[environment])
        results["machine"] = machine()
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        spread = f"{found['mean']:.1f} +- {found['deviation']:.1f}"
        print(f"{environment}: {spread}, solved by {found['solved']} of {options.seeds}", flush=True)


if __name__ == "__main__":
    main()
