"""The cost of a step of a population beside single runs of its scenario, on one thread.

Turns are interleaved in one process (`interleaved.py`): CPU time of a step of N stacked members over a step of one run, of
different hyperparameters, on the pole team (small networks) and on a digits network with layers of 128.
Run: `python benchmarks/population.py --json`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import antiphon
from antiphon.base.memory import keep_memory

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import described, finish, parsed, ratio, table, timed

TASKS: dict[str, dict[str, Any]] = {
    "cartpole-team": {},
    "digits-mlp": {"width": 128, "depth": 3},
}
RANGE = (1e-4, 1e-2)


def members(name: str, count: int) -> Callable[[], object]:
    template = antiphon.load(name)
    draw = random.Random(0)
    rates = [draw.uniform(*RANGE) for _ in range(count)]
    scenarios = [template.resolve(values={**TASKS[name], "lr": rate}) for rate in rates]
    if count == 1:
        return antiphon.Simulation(scenarios[0]).step
    return antiphon.Population(scenarios, range(count)).step


def measure(name: str, counts: list[int], rounds: int) -> list[dict[str, Any]]:
    contestants = {str(count): members(name, count) for count in (1, *counts)}
    times = timed(contestants, rounds, seconds=0.3, multiple=16)
    rows = []
    for count in counts:
        over_one, within = ratio(times, str(count), "1")
        rows.append(
            {
                "scenario": name,
                "members": count,
                "single_runs": over_one,
                "interval": within,
                "members_a_second": round(count / over_one, 1),
            }
        )
    return rows


def main() -> None:
    parser = described(__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--scenario", choices=TASKS, nargs="+", default=list(TASKS))
    arguments = parsed(parser, rounds=8)
    torch.set_num_threads(1)
    keep_memory()
    rows = [row for name in arguments.scenario for row in measure(name, arguments.members, arguments.rounds)]
    columns = list(rows[0])
    finish({"benchmark": "population", "rows": rows}, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
