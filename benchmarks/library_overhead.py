"""What a step of every library scenario costs on the stacked engine, beside the reference backend.

Both simulations of a scenario start from one seed and take the same steps, so that windows, episodes and draws are the same;
their turns (whole windows) are interleaved. The figure is the median over rounds of cohort / reference, CPU time per step, one
thread, telemetry off, with a bootstrap interval; demanded is at most 1.10 for each. Scenarios on CIFAR-10 run on its embedded
stand-in where CIFAR-10 is not at hand; what lacks its data is left out, and named.
Run: `python benchmarks/library_overhead.py --json` (ANTIPHON_DATA names the folder with MNIST and text).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiphon.engine.simulation import Simulation
from antiphon.errors import DataError
from antiphon.nets.memory import keep_memory
from antiphon.scenarios import Scenario, library_names, load

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, ratio, table, timed
from ring import simulate

DEMAND = 1.10
_SECONDS = 0.05
"""Of a turn; a scenario whose step takes longer has one step, or one window, in it."""
_STAND_INS: tuple[dict[str, str], ...] = ({}, {"data": "shapes"})
_LONGEST = 256
_BUDGET, _FEWEST = 8.0, 3
"""Seconds of turns after which a slow scenario has no more, and the rounds that each has."""


def scenario_of(name: str, variant: str | None) -> tuple[Scenario, dict[str, Any]]:
    """Return a scenario whose data are there, and what was set for that; DataError: there are none."""
    template = load(name)
    for settings in _STAND_INS:
        choices = template.parameters["data"].choices if "data" in template.parameters else None
        if settings and settings["data"] not in (choices or ()):
            continue
        scenario = template.resolve(variant, settings)
        try:
            simulate(scenario, "reference").close()
        except DataError as error:
            missing = error
        else:
            return scenario, settings
    raise missing


def steps_of(simulation: Simulation) -> int:
    """Return the steps after which windows and examples, and so costs, repeat."""
    windows = [unit.windows for unit in simulation.system.groups]
    lengths = {window.end(1) - window.end(0) for window in windows}
    return min(math.lcm(simulation.system.hold, *lengths), _LONGEST)


def measure(name: str, variant: str | None, rounds: int) -> dict[str, Any]:
    """Return the ratio of one scenario."""
    scenario, settings = scenario_of(name, variant)
    both = {backend: simulate(scenario, backend) for backend in ("cohort", "reference")}
    unit = steps_of(both["reference"])
    steps = {backend: simulation.step for backend, simulation in both.items()}
    first = timed(steps, 1, seconds=0, multiple=unit)["reference"][0]
    count = unit * max(1, round(_SECONDS / (first * unit)))
    rounds = min(rounds, max(_FEWEST, round(_BUDGET / (2 * first * count))))
    times = timed(steps, rounds, seconds=0, multiple=count)
    value, edges = ratio(times, "cohort", "reference")
    return {
        "scenario": name,
        "variant": variant,
        "set": settings,
        "agents": len(scenario.agents),
        "backend": both["cohort"].backend.name,
        "ratio": value,
        "interval_95": edges,
        "ms_per_step": round(float(np.median(times["cohort"])) * 1e3, 3),
        "ms_per_step_reference": round(float(np.median(times["reference"])) * 1e3, 3),
        "rounds": rounds,
        "steps_per_turn": count,
        "met": value <= DEMAND,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", help="names; none: the whole library")
    parser.add_argument("--variants", action="store_true", help="every variant, not the default one alone")
    arguments = parsed(parser, rounds=30)
    torch.set_num_threads(1)
    keep_memory()
    rows: list[dict[str, Any]] = []
    left_out = {}
    for name in arguments.scenarios or library_names():
        variants: list[str | None] = [*load(name).variants] if arguments.variants else []
        for variant in variants or [None]:
            try:
                rows.append(measure(name, variant, arguments.rounds))
            except DataError as error:
                left_out[name] = str(error)
                break
            if not arguments.json:
                print(f"{name}: {rows[-1]['ratio']}", file=sys.stderr)
    missed = [row["scenario"] for row in rows if not row["met"]]
    result = {
        "benchmark": "library_overhead",
        "demand": DEMAND,
        "met": not missed,
        "rows": rows,
        "left_out": left_out,
    }
    columns = ["scenario", "variant", "agents", "backend", "ratio", "interval_95", "ms_per_step"]
    said = f"above {DEMAND}: {', '.join(missed) or 'none'}"
    lines = [*table(rows, columns), "", said, *(f"left out: {name}: {why}" for name, why in left_out.items())]
    finish(result, arguments, lines)


if __name__ == "__main__":
    main()
