"""What a run of a scenario shows of itself: its parameters, and its files."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from antiphon import Simulation
from antiphon.base.errors import AntiphonError
from antiphon.comms.backward_requests import constant
from antiphon.scenarios import Scenario
from tests.kit.tab import GRAPH
from tests.kit.written_events import raw_rows

Shown = dict[str, Any]
"""What a run shows, by name; two runs are the same if all of it is."""
_DOCUMENTS = (
    GRAPH,
    "antiphon/timeline",
)
"""Tags that repeat the scenario itself."""
_TIMES = ("seconds", "time", "steps/s", "per_second", "memory", "run_dir")
"""Words in the names of what depends on the machine or the folder."""


def _parameters(simulation: Simulation) -> Iterator[tuple[str, bytes]]:
    owners: dict[str, Any] = dict(simulation.agents)
    for name, channel in simulation.channels.items():
        owners |= {f"{name} gradient": channel.synthetic_gradient, f"{name} input": channel.synthetic_input}
    for name, owner in owners.items():
        for key, value in owner.parameters.items() if owner is not None else ():
            yield f"{name} {key}", constant(value).numpy(force=True).tobytes()


def shown_by(simulation: Simulation) -> Shown:
    """Return the step and every parameter of a simulation."""
    return {"now": simulation.now, **dict(_parameters(simulation))}


def parameters_after(scenario: Scenario) -> Shown:
    """Run it; its parameters at the end."""
    with Simulation(scenario, seed=1) as simulation:
        try:
            simulation.run(progress=False)
        except AntiphonError as error:
            return {"error": str(error), **shown_by(simulation)}
        return shown_by(simulation)


def written(scenario: Scenario) -> Shown:
    """Run it into a folder; the names of its files, its metrics and its result, without times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        with Simulation(scenario, seed=1, logdir=path, checkpoint_every=None) as simulation:
            simulation.run(progress=False)
            shown = shown_by(simulation)
        files = sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.is_file())
        shown["files"] = [name for name in files if "tfevents" not in name]
        for metrics in path.glob("*.csv"):
            with metrics.open() as file:
                shown[metrics.name] = [row for row in csv.DictReader(file) if not _of_time(row["metric"])]
        result = json.loads((path / "result.json").read_text())
        shown |= {f"tag {tag}": rows for tag, rows in raw_rows(path).items() if tag not in _DOCUMENTS}
        shown["result"] = {key: value for key, value in result.items() if not _of_time(key)}
    return shown


def _of_time(name: str) -> bool:
    return any(word in name for word in _TIMES)
