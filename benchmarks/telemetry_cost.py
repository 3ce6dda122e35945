"""What it costs to write a run down: its steps with a run directory against its steps without one.

Both are the same simulation in one process; turns of `telemetry.every` steps alternate (`interleaved.py`), so that every turn
of the one that writes has one row. Everything is written that a run writes: `metrics.csv`, TensorBoard's curves, the arrays of
the Channels tab. `cost_percent` is the median, over rounds, of the ratio of CPU times less one. Its noise is that of a whole
turn; `row_percent` has less: what a step with a row takes (a median, every tenth row with messages counted by itself) beyond
the ordinary steps of the same simulation, over the time of all steps from row to row. Opening the directory (documents and pictures, once per run) is told apart from both.
Bytes are those of one row, by file.

Run: `python benchmarks/telemetry_cost.py --json`; `--only NAME` measures one of the scenarios, `--every N` other rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario, load

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, interval, parsed, table, timed
from ring import ring

DEMAND = 0.02
"""At most this share of a run's time shall go into writing it down."""
_ENDLESS = 10**9
_WITH_MESSAGES = 10
"""Every so many rows, messages are kept too."""


def digits() -> Scenario:
    """The scenario of the first example: four layers that learn digits."""
    return load("digits-mlp").resolve()


def corporation() -> Scenario:
    """The one of `make run`: 16 agents, 64 channels."""
    return load("corporation").resolve(values={"agents": 16, "readouts": 2})


def ring_of_256() -> Scenario:
    """256 agents and as many channels, all alike."""
    return ring(256)


def large() -> Scenario:
    """1,000 agents and 4,000 channels."""
    return load("corporation").resolve(values={"agents": 1000, "readouts": 4})


SCENARIOS: dict[str, tuple[Callable[[], Scenario], int]] = {
    "digits-mlp": (digits, 1),
    "corporation-16": (corporation, 1),
    "ring-256": (ring_of_256, 1),
    "corporation-1000": (large, 2),
}
"""Scenario, and by how much the rounds are divided."""


def measure(name: str, rounds: int, every: int | None) -> dict[str, Any]:
    """Return what writing costs of one scenario.

    Args:
        name: One of `SCENARIOS`.
        rounds: Turns of each contestant, for a small scenario.
        every: Steps from row to row; None: as the scenario says.
    """
    make, divisor = SCENARIOS[name]
    scenario = make()
    if every is not None:
        scenario = scenario.model_copy(
            update={"telemetry": scenario.telemetry.model_copy(update={"every": every})}
        )
    every = scenario.telemetry.every
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        silent = _seconds(lambda: Simulation(scenario).close())
        quiet = Simulation(scenario)
        start = time.process_time()
        writing = Simulation(scenario, logdir=place)
        opening = time.process_time() - start - silent
        quiet.until = writing.until = _ENDLESS
        laps = Laps(writing, every)
        with quiet, writing:
            for simulation in (quiet, writing):
                for _ in range(every):  # a turn has a row at its end
                    simulation.step()
            before, done = _sizes(place), writing.now
            contestants = {"quiet": quiet.step, "writing": laps.step}
            times = timed(contestants, max(_WITH_MESSAGES, rounds // divisor), seconds=0.0, multiple=every)
            rows = (writing.now - done) // every
            after = _sizes(place)
    ratios = times["writing"] / times["quiet"]
    low, high = interval(ratios)
    extra = laps.extra()
    per_step = float(np.median(times["quiet"]))
    row_percent = 100 * extra / (per_step * every)
    return {
        "scenario": name,
        "agents": len(scenario.agents),
        "channels": len(scenario.channels),
        "backend": writing.backend.name,
        "every": every,
        "rounds": len(ratios),
        "ms_per_step": round(per_step * 1e3, 3),
        "ms_per_row": round(extra * 1e3, 2),
        "row_percent": round(row_percent, 2),
        "cost_percent": round(100 * float(np.median(ratios)) - 100, 2),
        "interval_95": [round(100 * (low - 1), 2), round(100 * (high - 1), 2)],
        "opening_seconds": round(opening, 2),
        "bytes_per_row": {file: (size - before.get(file, 0)) // rows for file, size in after.items()},
        "met": row_percent < 100 * DEMAND,
    }


class Laps:
    """The steps of a simulation that writes, timed one by one.

    Args:
        simulation: The one.
        every: Steps from row to row.
    """

    def __init__(self, simulation: Simulation, every: int) -> None:
        self._simulation = simulation
        self._every = every
        self._seconds: dict[str, list[float]] = {"ordinary": [], "row": [], "row with messages": []}

    def step(self) -> None:
        """Take a step."""
        row, after = divmod(self._simulation.now + 1, self._every)
        kind = "ordinary" if after else "row" if row % _WITH_MESSAGES else "row with messages"
        self._seconds[kind].append(_seconds(self._simulation.step))

    def extra(self) -> float:
        """Return the CPU seconds that a row takes, on average over those with messages and those without."""
        ordinary, row, full = (float(np.median(seconds)) for seconds in self._seconds.values())
        return row - ordinary + (full - row) / _WITH_MESSAGES


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of a run's files that grow, under names that do not depend on the time."""
    events = sum(path.stat().st_size for path in folder.glob("events.out.tfevents.*"))
    return {
        path.name: path.stat().st_size
        for path in sorted(folder.glob("*.*"))
        if path.suffix in (".csv", ".bin")
    } | {"events": events}


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=SCENARIOS, help="measure this one")
    parser.add_argument("--every", type=int, help="steps from row to row (default: the scenario's)")
    arguments = parsed(parser, rounds=20)
    names = [arguments.only] if arguments.only else list(SCENARIOS)
    found = [measure(name, arguments.rounds, arguments.every) for name in names]
    result = {"benchmark": "telemetry_cost", "demand_percent": 100 * DEMAND, "scenarios": found}
    columns = ["scenario", "agents", "channels", "every", "ms_per_step", "ms_per_row"]
    lines = table(
        found, [*columns, "row_percent", "cost_percent", "interval_95", "opening_seconds", "bytes_per_row"]
    )
    missed = [row["scenario"] for row in found if not row["met"]]
    lines += [f"missed by {', '.join(missed)}"] if missed else []
    finish(result, arguments, lines)


if __name__ == "__main__":
    main()
