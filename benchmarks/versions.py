"""What a step of every library scenario costs in this version, beside another version of antiphon.

Each version runs in a process of its own, one thread, telemetry off; both simulate the same scenario from one seed, their turns
(whole windows) alternate, and the process tells its CPU time. The figure is the median over rounds of this version's time over
the other's, with a bootstrap interval; demanded is at most 1.03. `noise` is the same of this version over itself, measured
in the same rounds by a third process: a figure within it says nothing. `calls` counts what Python calls in a step, functions of
torch among them: the same count twice is the same step, however busy the machine.
The other version is a folder with its code: `git worktree add /tmp/older COMMIT`.
Run: `python benchmarks/versions.py /tmp/older --json` (ANTIPHON_DATA names the folder with MNIST and text).
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import math
import pstats
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import antiphon
from antiphon.base.errors import AntiphonError, DataError
from antiphon.base.memory import keep_memory
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Scenario, library_names, load

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import Served, finish, interval, parsed, ratio, serve, table, timed
from ring import simulate

DEMAND = 1.03
_SECONDS = 0.06
"""Of a turn; a scenario whose step takes longer has one step, or one window, in it."""
_WARM_UP = 8
"""Steps before calls are counted, and counted steps: whole windows, so many at least."""
_BUDGET, _FEWEST = 20.0, 5
"""Seconds of turns after which a slow scenario has no more, and the rounds that each has."""
_STAND_INS: tuple[dict[str, str], ...] = ({}, {"data": "shapes"})
"""Settings of a scenario, in order, until its data are there."""
_LONGEST = 256
ROOT = Path(__file__).parents[1]


def scenario_of(name: str, variant: str | None) -> tuple[Scenario, dict[str, Any]]:
    """Return a scenario whose data are there, and what was set for that; DataError: there are none."""
    template = load(name)
    for settings in _STAND_INS:
        choices = template.parameters["data"].choices if "data" in template.parameters else None
        if settings and settings["data"] not in (choices or ()):
            continue
        scenario = template.resolve(variant, settings)
        try:
            simulate(scenario, "cohort").close()
        except DataError as error:
            missing = error
        else:
            return scenario, settings
    raise missing


def steps_of(simulation: Simulation) -> int:
    """Return the steps after which windows and examples, and so costs, repeat."""
    running = getattr(simulation, "running", simulation)  # an older version has the system itself
    system = getattr(simulation, "_system", None) or running.system
    grids = [getattr(group, "grid", None) or getattr(group, "windows", None) for group in system.groups]
    ends_of = [
        getattr(grid, "end_of", None) or grid.end for grid in grids
    ]  # older versions have `windows` and `end`
    lengths = {end_of(1) - end_of(0) for end_of in ends_of}
    return min(math.lcm(system.description.hold, *lengths), _LONGEST)


class Worker:
    """Answers requests of `versions.py` in the version that this process has imported."""

    def __init__(self) -> None:
        self.simulation: Simulation | None = None

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load a scenario (`scenario`, `variant`, `settings`), or take steps and return their CPU seconds (`steps`) or calls (`counted`)."""
        if "scenario" in request:
            return self._load(request["scenario"], request["variant"], request["settings"])
        assert self.simulation is not None
        if "counted" in request:
            return {"calls": self._calls(request["counted"])}
        start = time.process_time()
        for _ in range(request["steps"]):
            self.simulation.step()
        return {"seconds": time.process_time() - start}

    def _calls(self, steps: int) -> int:
        assert self.simulation is not None
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(steps):
            self.simulation.step()
        profile.disable()
        return int(pstats.Stats(profile).total_calls)

    def _load(self, name: str, variant: str | None, settings: dict[str, str]) -> dict[str, Any]:
        if self.simulation is not None:
            self.simulation.close()
            self.simulation = None
        try:
            scenario = load(name).resolve(variant, settings)
            self.simulation = simulate(scenario, "cohort")
        except AntiphonError as error:
            return {"missing": str(error)}
        return {"agents": len(scenario.agents), "unit": steps_of(self.simulation)}


def worker(folder: Path) -> Served:
    """Return a process that runs the version in a folder."""
    return Served(
        [sys.executable, __file__, "--serve", str(folder)],
        {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )


def measure(
    workers: dict[str, Served], name: str, variant: str | None, settings: dict[str, str], rounds: int
) -> dict[str, Any]:
    """Return the ratio of one scenario; what a version cannot run has the reason under `missing`.

    Args:
        workers: The versions: `this`, `other`, and `again` (this one, for the noise).
        name: Of the scenario.
        variant: Of it; None: the default one.
        settings: Of its parameters.
        rounds: At most.
    """
    found: dict[str, Any] = {"scenario": name, "variant": variant}
    try:
        settings = scenario_of(name, variant)[1] | settings
    except DataError as error:
        return {**found, "missing": str(error)}
    found["set"] = settings
    answers = {
        each: one.request(scenario=name, variant=variant, settings=settings) for each, one in workers.items()
    }
    for each, answer in answers.items():
        if "missing" in answer:
            return {**found, "missing": f"{each}: {answer['missing']}"}
    unit = answers["this"]["unit"]
    steps = unit * -(-_WARM_UP // unit)
    for one in workers.values():
        one.turn(steps)
    calls = {each: one.request(counted=steps)["calls"] / steps for each, one in workers.items()}
    first = max(one.turn(unit) for one in workers.values())
    count = unit * max(1, round(_SECONDS / (first * unit)))
    rounds = min(rounds, max(_FEWEST, round(_BUDGET / (len(workers) * first * count))))
    times = timed(workers, rounds, seconds=0, multiple=count)
    value, edges = ratio(times, "this", "other")
    least = {each: float(np.min(seconds)) for each, seconds in times.items()}
    return {
        **found,
        "agents": answers["this"]["agents"],
        "ratio": value,
        "interval_95": edges,
        "ratio_of_minima": round(least["this"] / least["other"], 3),
        "noise": interval(times["again"] / times["this"]),
        "noise_of_minima": round(least["again"] / least["this"], 3),
        "ms_per_step": round(float(np.median(times["this"])) * 1e3, 3),
        "ms_per_step_other": round(float(np.median(times["other"])) * 1e3, 3),
        "calls": round(calls["this"], 1),
        "calls_other": round(calls["other"], 1),
        "rounds": rounds,
        "steps_per_turn": count,
        "met": min(value, least["this"] / least["other"]) <= DEMAND,
    }


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder has checked out."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the folder of the other version")
    parser.add_argument("scenarios", nargs="*", help="names; none: the whole library")
    parser.add_argument("--variants", action="store_true", help="every variant, not the default one alone")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parsed(parser, rounds=30)
    torch.set_num_threads(1)
    keep_memory()
    other = arguments.other.resolve()
    if arguments.serve:
        assert Path(antiphon.__file__).parents[1] == other, antiphon.__file__
        serve(Worker())
        return
    if not (other / "antiphon" / "__init__.py").exists():
        sys.exit(
            f"{other}: no folder of antiphon's code; name one, e.g. after `git worktree add {other} HEAD~1`"
        )
    settings = dict(word.split("=", 1) for word in arguments.set)
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folders = {"this": ROOT, "other": other, "again": ROOT}
        workers = {
            name: stack.enter_context(contextlib.closing(worker(folder))) for name, folder in folders.items()
        }
        for name in arguments.scenarios or library_names():
            variants: list[str | None] = [*load(name).variants] if arguments.variants else []
            for variant in variants or [None]:
                rows.append(measure(workers, name, variant, settings, arguments.rounds))
                print(f"{name}: {rows[-1].get('ratio', rows[-1].get('missing'))}", file=sys.stderr)
    missed = [row["scenario"] for row in rows if not row.get("met", True)]
    left_out = {row["scenario"]: row["missing"] for row in rows if "missing" in row}
    result = {
        "benchmark": "versions",
        "other": commit_of(other),
        "demand": DEMAND,
        "met": not missed,
        "rows": [row for row in rows if "missing" not in row],
        "left_out": left_out,
    }
    columns = [
        "scenario",
        "variant",
        "agents",
        "ratio",
        "interval_95",
        "ratio_of_minima",
        "noise",
        "ms_per_step",
    ]
    said = f"above {DEMAND}: {', '.join(missed) or 'none'}"
    lines = [
        *table(result["rows"], columns),
        "",
        said,
        *(f"left out: {n}: {why}" for n, why in left_out.items()),
    ]
    finish(result, arguments, lines)


if __name__ == "__main__":
    main()
