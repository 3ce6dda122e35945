"""How the finished runs of a study are scored, and where that is kept: evaluations.json beside result.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.engine.runs.directory import write_json
from antiphon.errors import ScenarioError
from antiphon.scenarios.training import OF_AGENTS

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["Scoring", "add_scores", "figures", "kept_scores", "least_loss", "mean_of"]

_FILE = "evaluations.json"
_FORMAT = 2
"""Of the file: another one's scores are of no use."""


@dataclass(frozen=True)
class Scoring:
    """A way to score the composed system.

    Attributes:
        split: `test`, `validation` or `train`.
        links: `perfect` or `as_run`.
        drop: With `as_run`: the probability that a message is lost; None: as in the training.
        excess: Whether `excess_loss` is found too: by how much the loss is more than the least of a linear model.
    """

    split: str = "test"
    links: str = "perfect"
    drop: float | None = None
    excess: bool = False

    @property
    def plain(self) -> bool:
        """Whether every run is scored so anyway."""
        return self == Scoring()

    @property
    def name(self) -> str:
        """What evaluations.json calls it."""
        words = [self.split, *([self.links] if self.links != "perfect" else [])]
        words += [f"drop {self.drop}"] if self.drop is not None else []
        return ", ".join([*words, *(["excess"] if self.excess else [])])


def figures(
    readouts: str | Sequence[str],
    agents: Mapping[str, Mapping[str, Any]],
    env: Mapping[str, float | None] | None = None,
) -> dict[str, float]:
    """Return what a study may tabulate, by its name there.

    The means over the readouts of `accuracy`, `error`, `bits` and `loss`, of what each has; the same of every agent
    (`A.accuracy`); what the environment says, where the readouts have nothing of that name. The error of who
    classifies is the complement of the accuracy.

    Args:
        readouts: Their names.
        agents: Figures by agent.
        env: Figures of the environment.
    """
    names = [readouts] if isinstance(readouts, str) else readouts
    found: dict[str, float] = {}
    for metric in OF_AGENTS:
        value = mean_of([agents[name].get(metric) for name in names])
        found |= {} if value is None else {metric: value}
    every = {
        f"{name}.{metric}": value
        for name, own in agents.items()
        for metric, value in _with_error(
            {metric: own[metric] for metric in OF_AGENTS if own.get(metric) is not None}
        ).items()
    }
    of_env = {name: value for name, value in (env or {}).items() if value is not None}
    return of_env | every | _with_error(found)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of figures; None where one is missing."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _with_error(found: Mapping[str, float]) -> dict[str, float]:
    return {**found, "error": 1 - found["accuracy"]} if "accuracy" in found else dict(found)


def kept_scores(path: Path, steps: int) -> dict[str, dict[str, float]]:
    """Return what a finished run has been scored, by `Scoring.name`.

    Args:
        path: The run directory.
        steps: How many steps it has done; scores of another number are of no use.
    """
    try:
        kept = json.loads((path / _FILE).read_text(encoding="utf-8"))
        scores: dict[str, dict[str, float]] = (
            kept["scores"] if (kept["format"], kept["steps"]) == (_FORMAT, steps) else {}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return scores


def add_scores(path: Path, steps: int, wanted: Sequence[Scoring]) -> dict[str, dict[str, float]]:
    """Score a finished run in all ways that are wanted, and return all that it has been scored.

    Args:
        path: The run directory, with a checkpoint.
        steps: How many steps it has done.
        wanted: How to score it; what is kept is not done again.

    Raises:
        ScenarioError: It cannot be scored so.
        RunError: The directory cannot be read or written.
    """
    from antiphon.engine.simulation import Simulation

    kept = kept_scores(path, steps)
    missing = [scoring for scoring in wanted if scoring.name not in kept]
    if not missing:
        return kept
    with Simulation.load(path) as simulation:
        for scoring in missing:
            kept[scoring.name] = _score(simulation, scoring)
    write_json(path / _FILE, {"format": _FORMAT, "steps": steps, "scores": kept})
    return kept


def _score(simulation: Simulation, scoring: Scoring) -> dict[str, float]:
    from antiphon.engine.inference.links import Links

    found = simulation.evaluate(scoring.split, Links(scoring.links, scoring.drop))
    score = figures(found.readout, found.agents) | {"examples": found.examples}
    if scoring.excess:
        score["excess_loss"] = score["loss"] - least_loss(simulation, scoring.split)
    return {name: value for name, value in score.items() if math.isfinite(value)}


def least_loss(simulation: Simulation, split: str) -> float:
    """Return the least mean loss on a split of a linear map from all that is observed to the readout's target.

    Raises:
        ScenarioError: There are several readouts.
    """
    import torch

    from antiphon.engine.inference.evaluation import examples
    from antiphon.engine.inference.export import observed
    from antiphon.nets.optimum import optimum

    readouts = simulation.scenario.readouts
    if len(readouts) > 1:
        raise ScenarioError(
            f"excess_loss: is of one readout, not of {len(readouts)}; name one in the scenario"
        )
    objective = simulation.scenario.agents[readouts[0]].objective
    assert objective is not None
    batches = list(examples(simulation.world.env, split))
    observations = [
        torch.cat([batch[name] for batch in batches]).flatten(1) for name in observed(simulation.system)
    ]
    targets = torch.cat([batch[objective.target] for batch in batches])
    return optimum(torch.cat(observations, 1), targets, objective.kind)
