"""The ring and the library on a GPU.

- The ring (`ring.py`) of 16, 256 and 1,024 agents beside a loop over `nn.Module`s and the programs stacked by hand, one of them
  as a CUDA graph (`agents_scaling.py`).
- Every library scenario on the GPU, as it runs by default and with every step taken by itself (`eager`), and on the CPU, one
  thread: wall clock, turns interleaved. `one_by_one` says why no period was recorded. What lacks its data, or its time (five
  minutes for all), is left out, and named.

Run: `make gpu`, or `python benchmarks/gpu.py --save`, which writes `results/gpu-<device>.json`.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiphon.base.errors import DataError, ScenarioError
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Scenario, library_names, load

sys.path.insert(0, str(Path(__file__).parent))
from agents_scaling import check, row
from interleaved import Run, clock_of, described, finish, parsed, ratio, table, timed

SIZES = (16, 256, 1024)
AGAINST = ("plain_loop_fused", "stacked", "stacked_captured")
SECONDS = 300.0
"""After which no further scenario is measured."""
_TURN, _LONGEST = 0.1, 256
"""Seconds of a turn, and its most steps."""
_PERIODS = 24
"""Of a turn of steps that are replayed, at least."""
_RECORDED = 12
"""Periods before a scenario is measured: its own is recorded by then, and has been compared."""


def scenario_of(name: str) -> tuple[Scenario, dict[str, str]]:
    """Return a scenario of the library, and what was set so that its data are there; DataError: there are none."""
    template = load(name)
    scenario = template.resolve()
    try:
        Simulation(scenario).close()
    except DataError:
        settings = {"data": "shapes"}
        if "data" not in template.parameters or "shapes" not in (template.parameters["data"].choices or ()):
            raise
        return template.resolve(values=settings), settings
    return scenario, {}


def steps_of(simulation: Simulation) -> int:
    """Return the steps after which windows and examples, and so costs, repeat."""
    system = simulation.running.system
    lengths = {group.grid.end_of(1) - group.grid.end_of(0) for group in system.groups}
    return min(math.lcm(system.description.hold, *lengths), _LONGEST)


def measure_scenario(name: str, device: str, rounds: int) -> dict[str, Any]:
    """Return the time of a step of a library scenario on a device, with others' over it; DataError: its data are missing."""
    scenario, settings = scenario_of(name)
    one_by_one = None
    try:
        measured = Simulation(scenario, device=device, capture=True)
    except ScenarioError as error:
        measured, one_by_one = Simulation(scenario, device=device), str(error)
    contestants = {
        "gpu": measured,
        "eager": Simulation(scenario, device=device),
        "cpu": Simulation(scenario),
    }
    unit = steps_of(contestants["cpu"])
    contestants["gpu"].run(_RECORDED * unit)
    runs = {each: Run(simulation, clock_of(device)) for each, simulation in contestants.items()}
    # the last period of a turn is not replayed, since its end is read
    multiple = {name: unit * (_PERIODS if name == "gpu" else 1) for name in runs}
    times = timed(runs, rounds, seconds=_TURN, multiple=multiple)
    (value, edges), (captured, captured_edges) = (ratio(times, over, "gpu") for over in ("cpu", "eager"))
    for simulation in contestants.values():
        simulation.close()
    return {
        "scenario": name,
        "set": settings,
        "agents": len(scenario.agents),
        "ms_per_step": round(float(np.median(times["gpu"])) * 1e3, 3),
        "ms_per_step_cpu": round(float(np.median(times["cpu"])) * 1e3, 3),
        "ratio_cpu": value,
        "interval_cpu": edges,
        "ratio_eager": captured,
        "interval_eager": captured_edges,
        "one_by_one": one_by_one,
    }


def measure(device: str, sizes: Sequence[int], names: Sequence[str], rounds: int) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    deviation = check(min(sizes), "cohort", device)
    rings = [row(size, "cohort", device, AGAINST, rounds) for size in sizes]
    library: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for name in names:
        if time.monotonic() > deadline:
            left_out[name] = "no time"
            continue
        try:
            library.append(measure_scenario(name, device, rounds))
        except DataError as error:
            left_out[name] = str(error)
    return {
        "deviation": deviation,
        "rings": rings,
        "library": library,
        "left_out": left_out,
    }


def main() -> None:
    parser = described(__doc__)
    parser.add_argument("--device", default="cuda")
    arguments = parsed(parser, rounds=5)
    if not torch.cuda.is_available():
        print("gpu.py: torch finds no CUDA device on this machine", file=sys.stderr)
        sys.exit(2)
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name(arguments.device)
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    # the largest last, in case time runs out
    names = sorted(library_names(), key=lambda name: name == "big-corporation")
    found = measure(arguments.device, SIZES, names, arguments.rounds)
    result = {"benchmark": f"gpu-{slug}", "device": device, "cuda": torch.version.cuda, **found}
    ratios = [f"ratio_{name}" for name in AGAINST]
    lines = [
        *table(found["rings"], ["agents", "ms_per_step", *ratios]),
        "",
        *table(
            found["library"],
            ["scenario", "agents", "ms_per_step", "ms_per_step_cpu", "ratio_cpu", "ratio_eager"],
        ),
        *(f"left out: {name}: {why}" for name, why in found["left_out"].items()),
    ]
    finish(result, arguments, lines)


if __name__ == "__main__":
    main()
