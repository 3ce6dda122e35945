"""Ways of running a scenario, and what a run shows of itself."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from antiphon import Population, Simulation
from antiphon.comms.backward_requests import constant
from antiphon.errors import AntiphonError, ScenarioError
from antiphon.scenarios import Scenario
from tests.distributed.virtual.profiles import on_cluster, profile
from tests.kit.running import two_parts
from tests.kit.tab import GRAPH
from tests.kit.written_events import raw_rows

Shown = dict[str, Any]
"""What a run shows, by name; two runs are the same if all of it is."""
_DOCUMENTS = (
    GRAPH,
    "scenario/yaml/text_summary",
    "_hparams_/experiment",
    "_hparams_/session_start_info",
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


def _unmeasured(scenario: Scenario) -> Scenario:
    """Return it without the values of channels, which take longer than the run and change none of its parameters."""
    return scenario.model_copy(update={"telemetry": scenario.telemetry.model_copy(update={"value": None})})


def _run(simulation: Simulation) -> Shown:
    with simulation:
        try:
            simulation.run(progress=False)
        except AntiphonError as error:
            return {"error": str(error), **shown_by(simulation)}
        return shown_by(simulation)


def alone(scenario: Scenario) -> Shown:
    """Run it by itself; its parameters at the end."""
    return _run(Simulation(_unmeasured(scenario), seed=1))


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


def seeds(scenario: Scenario) -> Shown:
    """Run two seeds in one program."""
    population = Population(_unmeasured(scenario), [1, 2])
    try:
        population.run()
        return {
            f"{i} {k}": v for i, one in enumerate(population.simulations) for k, v in shown_by(one).items()
        }
    finally:
        population.close()


def _placement(scenario: Scenario) -> dict[str, int]:
    placement = two_parts(scenario)
    if placement is None:
        raise ScenarioError("no channel of it may be cut")
    return placement


def parts(scenario: Scenario) -> Shown:
    """Run it in two parts."""
    placement = _placement(scenario)
    return _run(Simulation(_unmeasured(scenario), seed=1, parts=placement))


def in_virtual_time(scenario: Scenario) -> Shown:
    """Run it in virtual time, in two parts that do not wait for each other."""
    placement = _placement(scenario)
    return _run(on_cluster(_unmeasured(scenario), profile(2, latency=0.1), placement, seed=1))


WAYS: dict[str, Callable[[Scenario], Shown]] = {
    "alone": alone,
    "seeds": seeds,
    "parts": parts,
    "virtual": in_virtual_time,
}
"""Ways in which every setting has to show, or is refused."""
