"""The result of a run: the object that `--json` prints and result.json keeps."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.engine.runs.directory import finite
from antiphon.telemetry import Figure, Recorder

if TYPE_CHECKING:
    from antiphon.engine.base_simulation import BaseSimulation

__all__ = ["LatestFigures", "over", "result_of"]

_OF_TEST = ("loss", "accuracy", "error", "bits")
"""Figures of agents that a result takes from the test split, not from the training."""
_OF_CHANNELS = ("cosine", "norm_ratio", "sg_loss")
"""Figures that every channel has in a result; null where its coupling gives none."""


class LatestFigures(Recorder):
    """A recorder that keeps the latest figure of every metric."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, float]] = {}

    def of(self, kind: str, name: str) -> dict[str, float]:
        """Return the latest figures of an agent or channel by metric."""
        return self._found.get((kind, name), {})

    def read(self, table: Path, step: int) -> None:
        """Read the figures of an earlier session from metrics.csv, up to a step."""
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if int(row["step"]) <= step:
                    found = self._found.setdefault((row["kind"], row["name"]), {})
                    found[row["metric"]] = float(row["value"])

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Keep the figures."""
        for row in rows:
            self._found.setdefault((row.kind, row.name), {})[row.metric] = row.value


def result_of(
    simulation: BaseSimulation, latest: LatestFigures, facts: Mapping[str, Any], run_dir: str
) -> dict[str, Any]:
    """Evaluate the composed system on the test split and return the run's result.

    Args:
        simulation: In its present state; nothing of it changes.
        latest: The figures of its training.
        facts: The content of run.json.
        run_dir: The run directory, as the result names it.

    Returns:
        Plain data; what is not finite is None. `accuracy` (in [0, 1]), `error` and `bits` are means over the
        readouts that have them, else None; loss and metric of agents are of the test split too (None where the
        environment has none), their other figures and those of channels the latest of the training. `env` is what
        the environment says of progress.
    """
    scenario = simulation.scenario
    readouts = list(scenario.readouts)
    scores = simulation.evaluate("test") if "test" in simulation.world.env.splits else None
    agents = {}
    for name in scenario.agents:
        training = {k: v for k, v in latest.of("agent", name).items() if k not in _OF_TEST}
        goal = simulation.system.agents[name].goal
        objective = dict.fromkeys(("loss", goal.objective.metric)) if goal else {}
        agents[name] = {**objective, **(scores.agents.get(name, {}) if scores else {}), **training}
    channels = {
        channel.name: {**dict.fromkeys(_OF_CHANNELS), **latest.of("channel", channel.name)}
        for channel in scenario.channels
    }
    result: dict[str, Any] = finite(
        {
            "scenario": scenario.scenario,
            "variant": facts.get("variant"),
            "seed": simulation.seed,
            "steps": simulation.now,
            "seconds": round(facts["seconds"], 3),
            "run_dir": run_dir,
            "exit": facts["exit"],
            "readout": readouts[0] if len(readouts) == 1 else readouts,
            **{metric: over(readouts, metric, agents) for metric in ("accuracy", "error", "bits", "loss")},
            "examples": scores.examples if scores else None,
            "env": simulation.world.env.figures(),
            "agents": agents,
            "channels": channels,
            "events": [{"step": step, "event": line} for step, line in simulation.events],
        }
    )
    return result


def over(readouts: Sequence[str], metric: str, agents: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the mean of a metric over the readouts that have it.

    Args:
        readouts: Their names.
        metric: `accuracy`, `error`, `bits` or `loss`.
        agents: Figures by agent.
    """
    values = [agents[name][metric] for name in readouts if agents[name].get(metric) is not None]
    return sum(values) / len(values) if values else None
